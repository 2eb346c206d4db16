"""Presynaptic signals: what every rule tells its listener, and that nothing of the network changes by it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.learning import BPTT, DSR, OTTT, presynaptic

RULES = [BPTT(), OTTT(), DSR()]


def lif():
    return sk.LIF(0.9, 0.2)


def net_of(*end):
    return sk.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), lif(), nn.AvgPool2d(2), nn.Conv2d(4, 3, 3), lif()),
        *(nn.Flatten(), nn.Linear(12, 3), *end),
    ).double()


def drive(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2


def heard(rule, net, x, loss):
    calls = []
    result = rule(net, x, loss, listen=lambda *call: calls.append(call))
    return result, calls


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_names_layers_and_shapes(rule, loss):
    net, x = net_of(), drive(5, 4, 2, 8, 8)
    _, calls = heard(rule, net, x, loss)
    samples = 20 if rule == BPTT() else 4
    once = [("0", (samples, 2, 8, 8)), ("3", (samples, 4, 4, 4)), ("6", (samples, 12))]
    assert [(name, tuple(signal.shape)) for name, _, signal in calls] == once * (5 if rule == OTTT() else 1)
    assert all(layer is net.get_submodule(name) for name, layer, _ in calls)
    assert not any(signal.requires_grad for _, _, signal in calls)


def test_backpropagation_tells_the_inputs_of_every_step(loss):
    net, x = net_of(), drive(5, 4, 2, 8, 8)
    _, calls = heard(BPTT(), net, x, loss)
    _, spikes = sk.record(net, x)
    assert torch.equal(calls[0][2], x.flatten(0, 1))
    assert torch.equal(calls[2][2], spikes["4.spikes"].flatten(0, 1).flatten(1))


def test_ottt_tells_the_traces(loss):
    net, x = net_of(), drive(5, 4, 2, 8, 8)
    _, calls = heard(OTTT(), net, x, loss)
    _, spikes = sk.record(net, x)
    pooled, trace = nn.AvgPool2d(2)(spikes["1.spikes"].flatten(0, 1)).unflatten(0, (5, 4)), 0.0
    for t in range(5):
        trace = net[4].beta * trace + pooled[t]
        torch.testing.assert_close(calls[3 * t + 1][2], trace.detach())


def test_dsr_tells_the_weighted_rates(loss):
    net, x = net_of(), drive(5, 4, 2, 8, 8)
    _, calls = heard(DSR(), net, x, loss)
    _, spikes = sk.record(net, x)
    weights = net[1].beta ** torch.arange(4, -1, -1)
    rates = torch.tensordot(weights / weights.sum(), spikes["4.spikes"], 1)
    torch.testing.assert_close(calls[2][2], rates.flatten(1))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_weight_gradients_lie_in_the_span_of_the_signals(rule, loss, gradients):
    """The contract: the rows of a linear layer's gradient are sums of signals."""
    net, x = sk.Sequential(nn.Linear(30, 40), lif(), nn.Linear(40, 3)).double(), drive(3, 4, 30)
    signals = {}
    found = gradients(rule, net, x, loss, listen=lambda name, _, s: signals.setdefault(name, []).append(s))[1]
    for name in ("0", "2"):
        rows = torch.cat(signals[name])
        basis = torch.linalg.svd(rows, full_matrices=False)
        basis = basis.Vh[basis.S > 1e-10]
        assert len(basis) < rows.shape[1]
        gradient = found[f"{name}.weight"]
        torch.testing.assert_close(gradient @ basis.T @ basis, gradient)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_listening_changes_nothing(rule, loss, gradients, same):
    net, x = net_of(), drive(5, 4, 2, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    silent, expected = gradients(rule, net, x, loss)
    result, found = gradients(rule, net, x, loss, listen=lambda *call: None)
    assert torch.equal(result.output, silent.output)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all("forward" not in vars(module) and "integrate" not in vars(module) for module in net.modules())


def test_a_pass_of_ones_own_without_gradients():
    net, x, calls = net_of(), drive(5, 4, 2, 8, 8), []
    with torch.no_grad():
        expected = net(x)
        with presynaptic(net, lambda *call: calls.append(call)):
            assert torch.equal(net(x), expected)
            net(x)
        net(x)
    assert [name for name, _, _ in calls] == ["0", "3", "6"] * 2


def test_layers_that_do_not_learn_are_left_out(loss):
    net, x = net_of(), drive(5, 4, 2, 8, 8)
    net[3].requires_grad_(False)
    for rule in RULES:
        assert "3" not in {name for name, _, _ in heard(rule, net, x, loss)[1]}


def test_what_is_computed_again_is_told_once(loss):
    net, x, calls = net_of(), drive(6, 4, 2, 8, 8), []
    with presynaptic(net, lambda name, *_: calls.append(name)):
        loss(sk.checkpoint_time(net, 3)(x)).backward()
    assert calls == ["0", "3", "6"] * 2


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_an_error_leaves_the_network_as_it_was(rule, loss):
    def broken(*call):
        raise RuntimeError("broken")

    net, x = net_of(), drive(5, 4, 2, 8, 8)
    with pytest.raises(Exception, match="broken"):
        rule(net, x, loss, listen=broken)
    assert all("forward" not in vars(module) and "integrate" not in vars(module) for module in net.modules())


def test_one_pass_at_a_time():
    net = net_of()
    with (
        presynaptic(net, lambda *call: None),
        pytest.raises(sk.errors.InputError, match="in the pass of another rule"),
        presynaptic(net, lambda *call: None),
    ):
        pass
    assert all("forward" not in vars(module) for module in net.modules())
    with pytest.raises(sk.errors.InputError, match="give a network and a function"), presynaptic(net, None):
        pass
