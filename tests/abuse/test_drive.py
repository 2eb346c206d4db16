"""Drives that a neuron cannot take: one clear error, and the neuron is as good as before."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError, SpikekitError
from spikekit.state import active

NEURONS = [
    sk.LIF(),
    sk.LIF(reset="hard"),
    sk.LIF(reset="none"),
    sk.LIF(0.0),
    sk.LIF(0.0, reset="hard"),
    sk.LIF(1.0, reset_quantum=0.5, inclusive=True),
    sk.LIF(learn=("beta", "threshold")),
    sk.IF(),
    sk.LI(),
    sk.LI(0.0),
    sk.CUBALIF(),
    sk.CUBALIF(0.0, 1.0, reset="hard", learn="threshold"),
    sk.RecurrentLIF(3),
    sk.RecurrentLIF(3, reset="hard", bias=True, inclusive=True),
    sk.ALIF(),
    sk.ALIF(1.0, rho=1.0, step=0.0, reset="hard"),
    sk.SigmaDelta(0.5),
    sk.SigmaDelta(0.5, bias=1.0, activation="none", learn="bias"),
    sk.RefractoryLIF(0),
    # Never held in these tests: a drive that is lost may be anything.
    sk.RefractoryLIF(2, threshold=99.0, reset="hard"),
]
each_neuron = pytest.mark.parametrize("neuron", NEURONS, ids=str)


@pytest.fixture(autouse=True)
def works_as_before(request):
    """After the error the neuron gives what it gave before, and no session is left open."""
    neuron = request.getfixturevalue("neuron") if "neuron" in request.fixturenames else sk.LIF()
    x = torch.randn(4, 2, 3)
    expected, saved = neuron(x), {k: v.clone() for k, v in neuron.state_dict().items()}
    yield
    assert active() is None
    assert torch.equal(neuron(x), expected)
    for name, value in neuron.state_dict().items():
        assert torch.equal(value, saved[name])


def refuses(neuron, x, match, error=InputError):
    """Alone, in a network, through run and through record, with a carried state and without."""
    name = type(neuron).__name__
    net = sk.Sequential(neuron)
    for call in (neuron, lambda x: sk.run(neuron, x), lambda x: sk.record(neuron, x, ["drive"])):
        with pytest.raises(error, match=rf"(?s)^{name}\(.*{match}") as caught:
            call(x)
        assert isinstance(caught.value, (SpikekitError, ValueError))
    if getattr(x, "ndim", 0) > 2:
        with pytest.raises(error, match=rf"(?s)^(layer 0: {name}\(|Sequential: ).*{match}"):
            net(x)


@each_neuron
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("step", [0, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_not_finite(neuron, value, step, dtype, grad):
    x = torch.randn(4, 2, 3).to(dtype)
    x[step, 1, 2] = value
    match = rf"the drive holds {value} at \[T, B, \.\.\.\] = \[{step}, 1, 2\], one of 1 values.*weights of the layer"
    refuses(neuron, x.requires_grad_(grad), match)


@each_neuron
def test_not_finite_both_ways(neuron):
    """Inf and -Inf in one neuron become NaN, not a number that looks right."""
    x = torch.zeros(4, 1, 3)
    x[1, 0, 0], x[2, 0, 0] = float("inf"), float("-inf")
    refuses(neuron, x, r"the drive holds inf at \[T, B, \.\.\.\] = \[1, 0, 0\], one of 2 values")


def test_a_spike_of_the_last_step_is_not_missed_after_a_hard_reset():
    """A hard reset to zero would hide Inf in the last step, were it v = 0 instead of u·(1 - s)."""
    x = torch.zeros(3, 1, 1)
    x[-1] = float("inf")
    with pytest.raises(InputError, match="the drive holds inf"):
        sk.LIF(reset="hard")(x)


@pytest.mark.parametrize(
    "neuron", [sk.IF(reset="none"), sk.LI(1.0), sk.IF(), sk.CUBALIF(1.0), sk.RecurrentLIF(3)], ids=str
)
def test_a_membrane_beyond_its_range(neuron):
    x = torch.full((4, 1, 3), 2e38)
    refuses(neuron, x, r"the membrane grew beyond torch.float32's range on a finite drive.*beta < 1")


def test_large_membranes_whose_sum_is_beyond_the_range_are_fine():
    x = torch.full((1, 2, 3), torch.finfo(torch.float32).max)
    assert sk.LI()(x).isfinite().all()


@each_neuron
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_not_floating_point(neuron, dtype):
    refuses(neuron, torch.ones(4, 2, 3).to(dtype), rf"must be floating point, got {dtype}; use x.float\(\)")


@each_neuron
@pytest.mark.parametrize("x", [torch.tensor(1.0), torch.randn(5)], ids=["0-D", "1-D"])
def test_too_few_axes(neuron, x):
    refuses(neuron, x, r"must have the axes \[T, B, \.\.\.\], got shape .*x.unsqueeze\(1\)")


@each_neuron
@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((0, 2, 3), r"no time steps \(axis 0, T\)"),
        ((4, 0, 3), r"no samples \(axis 1, B\)"),
        ((0, 0, 3), r"no time steps \(axis 0, T\)"),
    ],
    ids=str,
)
def test_nothing_on_an_axis(neuron, shape, what):
    refuses(neuron, torch.zeros(shape), rf"has {what}: shape \({shape[0]}, {shape[1]}, 3\)")


@each_neuron
@pytest.mark.parametrize("x", [[[0.0]], np.zeros((4, 2, 3)), None, 1.0], ids=["list", "array", "None", "number"])
def test_not_a_tensor(neuron, x):
    refuses(neuron, x, r"must be a tensor, got \w+; use torch.as_tensor\(x\)")


@pytest.mark.parametrize("name", ["beta", "threshold", "reset_quantum"])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 4), (4, 4)], ids=str)
def test_parameters_of_another_shape(name, shape):
    lif = sk.LIF(**{name: torch.full(shape, 0.5)})
    found = f"LIF: {name} has the shape {shape}, which does not fit the drive (5, 2, 2, 4, 4): give one number, "
    with pytest.raises(InputError, match=re.escape(found + "one a channel (axis 2: 2), or one a neuron (2, 4, 4)")):
        lif(torch.randn(5, 2, 2, 4, 4))
    with pytest.raises(InputError, match=rf"^LIF: {name} has the shape .*axis 2: absent"):
        lif(torch.randn(5, 2))


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 5), (4, 2, 3, 2)], ids=str)
def test_a_drive_of_other_neurons_than_the_recurrent_ones(shape):
    match = r"the drive must be \[T, B, 3\], one value a neuron on axis 2, got shape .*Put nn.Flatten\(\) before it"
    refuses(sk.RecurrentLIF(3), torch.randn(shape), match)


@pytest.mark.parametrize("bias", [False, True])
def test_a_broken_recurrent_weight(bias):
    neuron = sk.RecurrentLIF(3, bias=bias)
    with torch.no_grad():
        (neuron.recurrent.bias if bias else neuron.recurrent.weight).fill_(float("inf"))
    x = torch.full((4, 2, 3), 2.0)
    refuses(neuron, x, rf"recurrent.{'bias' if bias else 'weight'} holds values that are not finite")


def test_a_hook_on_recurrent_weights_would_never_run():
    neuron = sk.RecurrentLIF(3)
    handle = neuron.recurrent.register_forward_pre_hook(lambda module, inputs: None)
    refuses(neuron, torch.randn(4, 2, 3), "`recurrent` has a hook, which never runs.*parametrize")
    handle.remove()
    neuron(torch.randn(4, 2, 3))


def test_a_broken_weight_is_found_at_the_neuron_behind_it():
    net = sk.Sequential(nn.Linear(3, 4), sk.LIF(), nn.Linear(4, 2), sk.LI())
    x = torch.randn(4, 2, 3)
    expected = net(x)
    weight = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight[1, 1] = float("nan")
    with pytest.raises(InputError, match=r"^layer 1: LIF\(.*holds nan at .*= \[0, 0, 1\], one of 8 values"):
        net(x)
    with torch.no_grad():
        net[0].weight.copy_(weight)
    assert torch.equal(net(x), expected)
