"""ALIF, RefractoryLIF and SigmaDelta as modules: what they equal, what they print, record and learn."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spikekit as sk

RESETS = ["soft", "hard", "none"]
resets = st.sampled_from(RESETS)


@given(resets, st.booleans(), st.integers(0, 2**31))
def test_without_a_step_or_a_period_each_is_an_lif(reset, inclusive, seed):
    torch.manual_seed(seed)
    x = (torch.randn(9, 2, 3) * 4).round() / 4 + 0.5
    settings = {"reset": reset, "inclusive": inclusive, "reset_quantum": 0.75}
    expected, recorded = sk.record(sk.LIF(0.5, 0.75, **settings), x, ["spikes", "membrane"])
    for neuron in (sk.ALIF(0.5, 0.75, step=0, **settings), sk.RefractoryLIF(0, 0.5, 0.75, **settings)):
        y, mine = sk.record(neuron, x, ["spikes", "membrane"])
        assert torch.equal(y, expected)
        assert torch.equal(mine["membrane"], recorded["membrane"])


def test_voltages_of_an_adaptive_threshold():
    """No leak, x = 1: the thresholds are 1, 1.5, 1.25, 1.625, 1.8125; the quantum stays 1."""
    x = torch.ones(5, 1, 1)
    neuron = sk.ALIF(1.0, 1.0, rho=0.5, step=0.5, inclusive=True)
    y, recorded = sk.record(neuron, x, ["membrane", "adaptation", "drive"])
    assert y.flatten().tolist() == [1, 0, 1, 1, 1]
    assert recorded["membrane"].flatten().tolist() == [1, 1, 2, 2, 2]
    assert recorded["adaptation"].flatten().tolist() == [1, 0.5, 1.25, 1.625, 1.8125]
    assert torch.equal(recorded["drive"], x)
    _, state = sk.run(neuron, x)
    assert (state[""]["v"].item(), state[""]["a"].item()) == (1, 1.8125)


def test_a_constant_drive_fires_ever_less():
    neuron = sk.ALIF(0.9, 1.0, rho=0.99, step=0.2)
    y = neuron(torch.full((300, 1, 1), 0.5)).flatten()
    assert y[:30].sum() > 1.5 * y[-30:].sum() > 0
    assert sk.LIF(0.9, 1.0)(torch.full((300, 1, 1), 0.5)).sum() > y.sum()


def test_voltages_of_a_refractory_period():
    """It fires at 0, holds 0.5 at 1 and 2, and goes on from there."""
    x = torch.tensor([1.5, 9.0, 9.0, 0.5, 1.0]).reshape(5, 1, 1)
    neuron = sk.RefractoryLIF(2, 0.5, 1.0)
    y, recorded = sk.record(neuron, x, ["membrane", "countdown"])
    assert recorded["membrane"].flatten().tolist() == [1.5, 0.5, 0.5, 0.75, 1.375]
    assert recorded["countdown"].flatten().tolist() == [2, 1, 0, 0, 2]
    assert y.flatten().tolist() == [1, 0, 0, 0, 1]
    _, state = sk.run(neuron, x)
    assert (state[""]["v"].item(), state[""]["r"].item()) == (0.375, 2)


def test_the_countdown_goes_on_in_the_next_piece():
    x = torch.full((4, 1, 1), 5.0)
    neuron = sk.RefractoryLIF(5)
    first, state = sk.run(neuron, x)
    second, _ = sk.run(neuron, x, state)
    assert torch.cat([first, second]).flatten().tolist() == [1, 0, 0, 0, 0, 0, 1, 0]


def changes(x):
    return torch.diff(x, dim=0, prepend=torch.zeros_like(x[:1]))


def test_sigma_delta_neurons_follow_a_network_of_relus():
    """The smaller the threshold, the closer, and the more is sent."""
    layers = nn.Linear(6, 8, bias=False), nn.Linear(8, 4, bias=False)
    x, errors, sent = torch.randn(40, 3, 6).cumsum(0) * 0.1, [], []
    biases = torch.randn(8) * 0.1, torch.randn(4) * 0.1
    expected = torch.relu(layers[1](torch.relu(layers[0](x) + biases[0])) + biases[1]).detach()
    for threshold in (0.2, 0.02, 1e-6):
        neurons = [sk.SigmaDelta(threshold, bias=bias) for bias in biases]
        net = sk.Sequential(layers[0], neurons[0], layers[1], neurons[1], sk.LI(1.0))
        with torch.no_grad():
            y, recorded = sk.record(net, changes(x))
        errors.append(float((y - expected).abs().max()))
        sent.append(float((recorded["1.spikes"] != 0).float().mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4
    assert sent[0] < sent[1] < sent[2]


def test_a_still_input_costs_one_step():
    net = sk.Sequential(nn.Linear(6, 8, bias=False), sk.SigmaDelta(0.01, bias=0.1))
    y = net(changes(torch.randn(1, 3, 6).expand(9, 3, 6)))
    assert y[0].any()
    assert not y[1:].any()


def test_graded_spikes_say_so():
    assert sk.SigmaDelta(1.0).graded
    assert sk.SigmaDelta(1.0).spiking
    assert not any(neuron.graded for neuron in (sk.LIF(), sk.ALIF(), sk.RefractoryLIF(1), sk.CUBALIF()))


@pytest.mark.parametrize("shape", [(), (3,), (3, 4, 5)], ids=["one", "per channel", "per neuron"])
def test_everything_that_is_learned_gets_a_gradient(shape):
    values = [torch.full(shape, value) for value in (0.8, 0.5, 0.7, 0.3)]
    beta, threshold, rho, step = values
    x = torch.randn(9, 2, 3, 4, 5) + 0.4
    for neuron in (
        sk.ALIF(beta, threshold, rho=rho, step=step, learn=("beta", "threshold", "rho", "step")),
        sk.RefractoryLIF(2, beta, threshold, learn=("beta", "threshold")),
        sk.SigmaDelta(threshold, bias=step, learn="bias"),
    ):
        (neuron(x) * x).sum().backward()
        for name, parameter in neuron.named_parameters():
            assert parameter.grad.shape == shape, name
            assert parameter.grad.abs().sum() > 0, name
            torch.testing.assert_close(
                getattr(neuron, name.removesuffix("_raw")),
                dict(zip(("beta", "threshold", "rho", "step", "bias"), (*values, step), strict=True))[
                    name.removesuffix("_raw")
                ],
            )


def test_a_learned_value_cannot_be_assigned():
    for neuron, name in ((sk.ALIF(learn="rho"), "rho"), (sk.SigmaDelta(1.0, learn="bias"), "bias")):
        with pytest.raises(sk.errors.InputError, match=f"{name} is learned and cannot be assigned"):
            setattr(neuron, name, torch.tensor(0.5))


def test_a_rectifier_changes_the_gradient_of_a_refractory_neuron_alone():
    x, grads = torch.randn(9, 2, 3) * 0.4 + 0.4, []
    for rectifier in (None, sk.MPR()):
        leaf = x.clone().requires_grad_()
        neuron = sk.RefractoryLIF(1, 0.5, 0.5, surrogate=sk.surrogate.ATan(), rectifier=rectifier)
        y = neuron(leaf)
        grads.append((y, torch.autograd.grad((y * x).sum(), leaf)[0]))
    assert torch.equal(grads[0][0], grads[1][0])
    assert not torch.allclose(grads[0][1], grads[1][1])


def test_repr():
    assert repr(sk.ALIF(step=0.25, learn="rho")) == (
        "ALIF(beta=0.9, threshold=1, rho=0.95, step=0.25, reset='soft', surrogate=ATan(alpha=2.0), learn=('rho',))"
    )
    assert repr(sk.RefractoryLIF(3, 0.5, reset="hard")) == (
        "RefractoryLIF(3, beta=0.5, threshold=1, reset='hard', surrogate=ATan(alpha=2.0))"
    )
    assert repr(sk.SigmaDelta(0.5, bias=torch.ones(3), learn="bias")) == (
        "SigmaDelta(threshold=0.5, bias=tensor[3], activation='relu', learn=('bias',))"
    )


def test_the_exporter_refuses_a_bias_that_sigma_delta_would_add_up():
    net = sk.Sequential(nn.Flatten(), nn.Linear(4, 3), sk.SigmaDelta(1.0))
    with pytest.raises(sk.errors.ExportError, match=r"layer 2 \(SigmaDelta\).*a constant.*bias=False"):
        sk.export.to_loihi(net, torch.ones(3, 2, 4))
