"""Settings that make no neuron: refused when the neuron is made, by class and by name."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit.errors import InputError

NAN, INF = float("nan"), float("inf")


def recurrent(*arguments, **settings):
    return sk.RecurrentLIF(4, *arguments, **settings)


recurrent.__name__ = "RecurrentLIF"


@pytest.mark.parametrize("learn", [(), ("alpha",)])
@pytest.mark.parametrize("alpha", [-0.1, 1.1, NAN, torch.tensor([0.5, 1.5])], ids=str)
def test_alpha(learn, alpha):
    with pytest.raises(InputError, match=r"^CUBALIF: alpha must be between 0 and 1, got "):
        sk.CUBALIF(alpha, learn=learn)


@pytest.mark.parametrize("features", [0, -1, 2.0, True, None, "3"])
def test_features(features):
    with pytest.raises(InputError, match=r"^RecurrentLIF: features must be a positive integer, .*, got "):
        sk.RecurrentLIF(features)


@pytest.mark.parametrize("neuron", [sk.LIF, sk.LI, sk.CUBALIF, recurrent, sk.ALIF])
@pytest.mark.parametrize("learn", [(), ("beta",)])
@pytest.mark.parametrize("beta", [-0.1, 1.1, NAN, INF, torch.tensor([0.5, 1.5]), torch.tensor([0.5, NAN])], ids=str)
def test_beta(neuron, learn, beta):
    with pytest.raises(InputError, match=rf"^{neuron.__name__}: beta must be between 0 and 1, got "):
        neuron(beta=beta, learn=learn)


@pytest.mark.parametrize("neuron", [sk.LIF, sk.IF, sk.CUBALIF, recurrent, sk.ALIF])
@pytest.mark.parametrize("learn", [(), ("threshold",)])
@pytest.mark.parametrize(
    "threshold", [0, 0.0, -1.0, NAN, INF, torch.tensor([1.0, -1.0]), torch.tensor([1.0, NAN])], ids=str
)
def test_threshold(neuron, learn, threshold):
    with pytest.raises(InputError, match=rf"^{neuron.__name__}: threshold must be greater than 0, got "):
        neuron(threshold=threshold, learn=learn)


@pytest.mark.parametrize("quantum", [0.0, -1.0, NAN, torch.tensor([1.0, 0.0])], ids=str)
def test_quantum(quantum):
    with pytest.raises(InputError, match=r"^LIF: reset_quantum must be greater than 0, got "):
        sk.LIF(reset_quantum=quantum)


def test_the_range_of_a_tensor_is_told():
    with pytest.raises(InputError, match=r"got values from -0\.5 to 2$"):
        sk.LIF(torch.tensor([0.3, -0.5, 2.0]))


@pytest.mark.parametrize("value", ["0.9", None, [0.5, 0.5], True, 1j])
@pytest.mark.parametrize("name", ["beta", "threshold"])
def test_not_a_number(name, value):
    with pytest.raises(InputError, match=f"^LIF: {name} must be a number or a tensor, got "):
        sk.LIF(**{name: value})


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool], ids=str)
@pytest.mark.parametrize(
    ("neuron", "name"),
    [
        *((sk.CUBALIF, name) for name in ("alpha", "beta", "threshold", "reset_quantum")),
        (sk.LI, "beta"),
        (sk.LIF, "beta"),
    ],
)
def test_numbers_that_are_not_real(neuron, name, dtype):
    with pytest.raises(
        InputError, match=rf"^{neuron.__name__}: {name} must hold real numbers, got a tensor of {dtype}"
    ):
        neuron(**{name: torch.ones(3, dtype=dtype)})


@pytest.mark.parametrize("beta", [0.0, 1.0, torch.tensor([0.5, 1.0])], ids=str)
def test_a_learnable_beta_needs_room(beta):
    for neuron in (sk.LIF, sk.LI, sk.CUBALIF, recurrent):
        with pytest.raises(InputError, match=rf"^{neuron.__name__}: a learnable beta must start strictly between"):
            neuron(beta=beta, learn="beta")
    with pytest.raises(InputError, match=r"^CUBALIF: a learnable alpha must start strictly between"):
        sk.CUBALIF(beta, learn="alpha")


@pytest.mark.parametrize("reset", ["Soft", "", "zero ", None, "detach"])
def test_unknown_reset(reset):
    if reset is not None:
        with pytest.raises(InputError, match=rf"^LIF: unknown reset {reset!r}; choose 'soft', 'hard' or 'none'"):
            sk.LIF(reset_mechanism=reset)
    with pytest.raises(InputError, match=rf"^IF: unknown reset {reset!r}"):
        sk.IF(reset=reset)


def test_unknown_learn():
    with pytest.raises(InputError, match=r"^LIF: cannot learn \['reset_quantum'\]; choose 'beta', 'threshold'"):
        sk.LIF(learn=("beta", "reset_quantum"))
    with pytest.raises(InputError, match=r"^LI: cannot learn \['threshold'\]; choose 'beta'"):
        sk.LI(learn="threshold")
    with pytest.raises(InputError, match=r"^CUBALIF: cannot learn \['gamma'\]; choose 'alpha', 'beta', 'threshold'"):
        sk.CUBALIF(learn="gamma")
    with pytest.raises(InputError, match=r"^RecurrentLIF: cannot learn \['weight'\]; choose 'beta', 'threshold'"):
        recurrent(learn="weight")


@pytest.mark.parametrize(
    "surrogate", [sk.surrogate.ATan, "atan", torch.sigmoid, 2.0], ids=["class", "text", "function", "number"]
)
def test_not_a_surrogate(surrogate):
    with pytest.raises(InputError, match=r"^LIF: surrogate must be one of spikekit.surrogate.*ATan\(2\.0\)"):
        sk.LIF(surrogate=surrogate)


@pytest.mark.parametrize("learn", [(), ("step",)])
@pytest.mark.parametrize("step", [-0.1, NAN, INF, torch.tensor([0.5, -0.5])], ids=str)
def test_step(learn, step):
    with pytest.raises(InputError, match=r"^ALIF: step must be 0 or greater, got "):
        sk.ALIF(step=step, learn=learn)


@pytest.mark.parametrize("rho", [-0.1, 1.1, NAN], ids=str)
def test_rho(rho):
    with pytest.raises(InputError, match=r"^ALIF: rho must be between 0 and 1, got "):
        sk.ALIF(rho=rho)


def test_what_an_adaptive_threshold_learns():
    with pytest.raises(InputError, match=r"^ALIF: a learnable step must start above 0, got 0; the exponential"):
        sk.ALIF(step=0, learn="step")
    with pytest.raises(InputError, match=r"^ALIF: cannot learn \['tau'\]; choose 'beta', 'threshold', 'rho', 'step'"):
        sk.ALIF(learn="tau")


@pytest.mark.parametrize("period", [-1, 2.0, True, None, "3", 2**24 + 1, torch.tensor(3)], ids=str)
def test_period(period):
    with pytest.raises(
        InputError, match=r"^RefractoryLIF: period must be a whole number of steps from 0 to 2\^24, got "
    ):
        sk.RefractoryLIF(period)


def test_sigma_delta():
    with pytest.raises(InputError, match=r"^SigmaDelta: threshold must be greater than 0, got 0"):
        sk.SigmaDelta(0)
    with pytest.raises(InputError, match=r"^SigmaDelta: bias must be finite, got nan"):
        sk.SigmaDelta(1.0, bias=NAN)
    with pytest.raises(InputError, match=r"^SigmaDelta: unknown activation 'ReLU'; choose 'relu' or 'none'"):
        sk.SigmaDelta(1.0, activation="ReLU")
    with pytest.raises(InputError, match=r"^SigmaDelta: cannot learn \['threshold'\]; choose 'bias'"):
        sk.SigmaDelta(1.0, learn="threshold")
