"""CUBALIF and RecurrentLIF as modules: what they equal, what they print, record and learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import spikekit as sk


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_a_current_is_a_leaky_integrator_in_front_of_an_lif(reset):
    x = torch.randn(9, 2, 3) + 0.4
    neuron, chain = sk.CUBALIF(0.6, 0.8, 0.7, reset), sk.Sequential(sk.LI(0.6), sk.LIF(0.8, 0.7, reset))
    y, recorded = sk.record(neuron, x, ["drive", "current", "membrane", "spikes"])
    expected, parts = sk.record(chain, x, ["0.membrane", "1.membrane"])
    assert torch.equal(y, expected)
    assert torch.equal(recorded["drive"], x)
    assert torch.equal(recorded["current"], parts["0.membrane"])
    assert torch.equal(recorded["membrane"], parts["1.membrane"])


def test_voltages_of_a_current():
    """alpha = beta = 0.5: i = 1, 0.5, 0.75, so u = 1, 1, 1.25, over the threshold once."""
    x = torch.tensor([1.0, 0.0, 0.5]).reshape(3, 1, 1)
    y, state = sk.run(sk.CUBALIF(0.5, 0.5, 1.0), x)
    assert y.flatten().tolist() == [0, 0, 1]
    assert (state[""]["i"].item(), state[""]["v"].item()) == (0.75, 0.25)


def test_voltages_of_recurrent_spikes():
    """Neuron 0 fires at t = 0 and 2; what it sends arrives a step later."""
    neuron = sk.RecurrentLIF(2, 0.5, 1.0, bias=True)
    with torch.no_grad():
        neuron.recurrent.weight.copy_(torch.tensor([[0.0, 0.0], [0.75, 0.0]]))
        neuron.recurrent.bias.copy_(torch.tensor([0.0, 0.25]))
    x = torch.tensor([[1.5, 0.0], [0.0, 0.0], [1.5, 0.5], [0.0, 0.0]]).unsqueeze(1)
    y, recorded = sk.record(neuron, x, ["membrane", "drive"])
    # neuron 1: 0.25, 0.125 + 0.25 + 0.75, then soft reset to 0.125: 0.0625 + 0.75, 0.40625 + 0.25 + 0.75
    assert recorded["membrane"][:, 0].tolist() == [[1.5, 0.25], [0.25, 1.125], [1.625, 0.8125], [0.3125, 1.40625]]
    assert y[:, 0].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert torch.equal(recorded["drive"], x)


def test_recurrent_weights_of_zero_make_an_lif():
    neuron = sk.RecurrentLIF(3, 0.8, 0.5, "hard")
    nn.init.zeros_(neuron.recurrent.weight)
    x = torch.randn(9, 2, 3)
    assert torch.equal(neuron(x), sk.LIF(0.8, 0.5, "hard")(x))


class Loop(nn.Module):
    """The same recurrence as a loop of a user's own."""

    def __init__(self, neuron):
        super().__init__()
        self.back, self.lif = neuron.recurrent, sk.LIF(0.8, 0.5)

    def forward(self, x):
        def step(s, x_t):
            y = self.lif(x_t + self.back(s))
            return y[0], y

        return sk.scan(self, step, x, torch.zeros_like(x[0]))[0]


def test_a_loop_with_scan_gives_the_same_numbers():
    neuron = sk.RecurrentLIF(6, 0.8, 0.5, bias=True).double()
    loop, x = Loop(neuron), torch.randn(9, 3, 6, dtype=torch.float64)
    nn.init.normal_(neuron.recurrent.bias)
    grads = []
    for net in (neuron, loop):
        leaf = x.clone().requires_grad_()
        y = net(leaf)
        grads.append([y, *torch.autograd.grad((y * x).sum(), [leaf, *neuron.recurrent.parameters()])])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


class EachStep(nn.Module):
    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x):
        return sk.scan(self, lambda carry, x_t: (carry, self.neuron(x_t)), x, ())[0]


@pytest.mark.parametrize("neuron", [sk.CUBALIF(), sk.RecurrentLIF(6)], ids=str)
def test_a_scan_carries_all_states(neuron):
    x = torch.randn(9, 3, 6)
    y, state = sk.run(EachStep(neuron), x)
    expected, last = sk.run(neuron, x)
    assert torch.equal(y, expected)
    inner = state[".scan"]["inner"]["neuron"]
    torch.testing.assert_close(inner, last[""], rtol=0, atol=0)
    halves = sk.map_state(lambda value: value[:2], last)
    assert torch.equal(sk.run(neuron, x[:, :2], halves)[0], sk.run(neuron, x, last)[0][:, :2])


def test_recurrent_weights_start_orthogonal():
    weight = sk.RecurrentLIF(20).recurrent.weight
    torch.testing.assert_close(weight @ weight.t(), torch.eye(20), rtol=0, atol=1e-5)
    assert sk.RecurrentLIF(3).recurrent.bias is None
    assert not sk.RecurrentLIF(3, bias=True).recurrent.bias.any()


def test_repr():
    assert repr(sk.CUBALIF()) == "CUBALIF(alpha=0.5, beta=0.9, threshold=1, reset='soft', surrogate=ATan(alpha=2.0))"
    neuron = sk.RecurrentLIF(4, 0.5, reset="hard", bias=True, inclusive=True, learn="beta")
    assert repr(neuron) == (
        "RecurrentLIF(4, bias=True, beta=0.5, threshold=1, reset='hard', surrogate=ATan(alpha=2.0), inclusive=True, "
        "learn=('beta',))"
    )
    assert "learn=('alpha', 'threshold')" in repr(sk.CUBALIF(learn=("threshold", "alpha")))


@pytest.mark.parametrize("shape", [(), (3,), (3, 4, 5)], ids=["one", "per channel", "per neuron"])
def test_decays_of_a_current_learn_in_their_range(shape):
    alpha = torch.rand(shape) * 0.8 + 0.1
    x = torch.rand(5, 2, 3, 4, 5)
    fixed, learned = sk.CUBALIF(alpha), sk.CUBALIF(alpha, learn=("alpha", "beta", "threshold"))
    torch.testing.assert_close(learned.alpha, fixed.alpha)
    assert {name for name, _ in learned.named_parameters()} == {"alpha_raw", "beta_raw", "threshold_raw"}
    optimiser = torch.optim.SGD(learned.parameters(), lr=1.0)
    for _ in range(3):
        learned(x).mean().backward()
        optimiser.step()
    assert bool(((learned.alpha >= 0) & (learned.alpha <= 1)).all())
    assert not torch.equal(learned.alpha, fixed.alpha)
    with pytest.raises(sk.errors.InputError, match="alpha is learned and cannot be assigned"):
        learned.alpha = torch.tensor(0.1)


def test_recurrent_weights_learn_unless_they_are_frozen():
    neuron = sk.RecurrentLIF(3, learn="threshold", bias=True)
    x = torch.rand(8, 4, 3)
    neuron(x).sum().backward()
    grads = {name: p.grad for name, p in neuron.named_parameters()}
    assert set(grads) == {"threshold_raw", "recurrent.weight", "recurrent.bias"}
    assert all(grad.any() for grad in grads.values())
    assert neuron.requires_grad_(False)(x).grad_fn is None


def test_a_parametrized_recurrent_weight_is_used():
    class NoSelf(nn.Module):
        def forward(self, weight):
            return weight - torch.diag(weight.diagonal())

    neuron, plain = sk.RecurrentLIF(5, threshold=0.5), sk.RecurrentLIF(5, threshold=0.5)
    parametrize.register_parametrization(neuron.recurrent, "weight", NoSelf())
    with torch.no_grad():
        plain.recurrent.weight.copy_(neuron.recurrent.weight)
    x = torch.rand(8, 4, 5)
    y = neuron(x)
    assert torch.equal(y, plain(x))
    y.sum().backward()
    original = neuron.recurrent.parametrizations.weight.original
    assert original.grad.any()
    assert not original.grad.diagonal().any()


@pytest.mark.parametrize("neuron", [sk.CUBALIF(), sk.RecurrentLIF(3)], ids=str)
def test_checkpoints_tell_their_settings_apart(neuron):
    from spikekit.train.fingerprint import _settings

    assert "rule=LIFRule(reset='soft'" in _settings(neuron)
    assert "at 0x" not in _settings(neuron)


@pytest.mark.parametrize("neurons", [100, 4000], ids=["small", "from kept memory"])
@pytest.mark.parametrize("kind", ["LIF", "CUBALIF", "LI", "MPBN"])
def test_outputs_may_be_changed_in_place_whatever_their_size(kind, neurons):
    neuron = sk.LIF(norm=sk.MPBN(neurons)) if kind == "MPBN" else getattr(sk, kind)()
    x = torch.rand(10, 8, neurons, requires_grad=True)
    neuron(x).mul_(2).sum().backward()
    assert x.grad.any()
