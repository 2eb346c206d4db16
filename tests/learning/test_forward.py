"""The forward pass under a rule: bit for bit that of the network alone, by the same kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.learning import BPTT, DSR, OTTT, feedback_alignment, presynaptic, sign_symmetry
from spikekit.ops import conv as conv_op
from spikekit.ops import linear as linear_op


def lif(**settings):
    return sk.LIF(0.9, 0.3, **settings)


def mlp():
    """So large that events pay at this density, which sums in another order than torch does."""
    return sk.Sequential(nn.Linear(784, 800), lif(), nn.Linear(800, 800), lif(), nn.Linear(800, 10))


def conv():
    front = [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), lif(), nn.Conv2d(32, 8, 3, padding=1), lif()]
    return sk.Sequential(*front, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 64, 10))


def events(net):
    shape = (784,) if isinstance(net[0], nn.Linear) else (16, 16, 16)
    return (torch.rand(3, 128, *shape) < 0.03).float()


def step_by_step(net, x):
    state, outputs = None, []
    for x_t in x.split(1):
        y, state = sk.run(net, x_t, state)
        outputs.append(y.detach())
        state = sk.map_state(torch.Tensor.detach, state)
    return torch.cat(outputs)


def loss(output):
    return output.square().mean()


@pytest.fixture
def by_events(monkeypatch):
    """The products that were summed event by event: their names."""
    seen = []
    for module, name in ((linear_op, "linear_events"), (conv_op, "conv2d_events")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, name=name: seen.append(name) or real(*args))
    return seen


@pytest.mark.parametrize("make", [mlp, conv])
@pytest.mark.parametrize("change", [lambda net: net, feedback_alignment, sign_symmetry])
def test_outputs_are_equal(by_events, make, change):
    net = make()
    x = events(net)
    net.eval()

    def called(run):
        by_events.clear()
        y = run()
        return y, list(by_events)

    whole, kernels = called(lambda: net(x).detach())
    steps, kernels_of_steps = called(lambda: step_by_step(net, x))
    assert kernels
    assert kernels_of_steps
    change(net)
    for rule, expected, which in ((BPTT(), whole, kernels), (DSR(), whole, kernels), (OTTT(), steps, kernels_of_steps)):
        result, found = called(lambda rule=rule: rule(net, x, loss, listen=lambda *call: None))
        assert torch.equal(result.output, expected)
        # Rates go through the layers too.
        assert found[: len(which)] == which if rule != DSR() else set(found) == set(which)
    torch.testing.assert_close(steps, whole, rtol=1e-4, atol=1e-4)


def test_spikes_are_equal():
    net = mlp()
    x = events(net)
    _, alone = sk.record(net, x)
    with presynaptic(feedback_alignment(net), lambda *call: None):
        _, spikes = sk.record(net, x)
    assert alone.keys() == spikes.keys()
    assert all(torch.equal(spikes[name], alone[name]) for name in alone)
    assert all(0 < trace.mean() < 1 for trace in alone.values())


@pytest.mark.parametrize("make", [mlp, conv])
def test_inference_is_equal(make):
    """Without gradients layers may run together with their neurons; who listens is told all the same."""
    net, calls = make().eval(), []
    x = events(net)
    with torch.no_grad():
        alone = net(x)
        with presynaptic(net, lambda name, *_: calls.append(name)):
            assert torch.equal(net(x), alone)
        assert torch.equal(feedback_alignment(net)(x), alone)
    assert calls == [name for name, layer in net.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def test_a_folded_network_with_feedback():
    """What reads layers for export or folding still knows them for what they are."""
    net = feedback_alignment(conv())
    x = events(net)
    net(x)
    net.eval()
    with torch.no_grad():
        folded = sk.fold(net)
    assert isinstance(folded[1], nn.Identity)
    assert sk.verify_fold(net, x, folded).away == 0


def test_learned_decays_and_hard_resets_run():
    """What OTTT's equations do not speak of: the trace goes on through the reset, by the decay of now."""
    net = sk.Sequential(nn.Linear(6, 8), sk.LIF(0.9, 0.2, "hard", learn=("beta", "threshold")), nn.Linear(8, 3))
    x = torch.rand(5, 4, 6)
    assert torch.equal(OTTT()(net, x, loss).output, step_by_step(net, x))
    assert all(float(p.grad.abs().sum()) > 0 for p in net.parameters())
