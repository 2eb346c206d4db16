"""DSR: its gradients against numerical differentiation of the map between rates, and against a loop by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import spikekit as sk
from spikekit.learning import BPTT, DSR

BETA = math.exp(-0.05)


def exactly(number):
    return torch.tensor(number, dtype=torch.float64)


def lif(quantum=1.0, beta=BETA, **settings):
    return sk.LIF(exactly(beta), exactly(0.3), reset_quantum=exactly(quantum), **settings)


def dense(*end):
    return sk.Sequential(nn.Linear(6, 8), lif(0.7), nn.Linear(8, 7), lif(0.8), nn.Linear(7, 3), *end).double()


def drive(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2


def weighted(x, beta=BETA):
    weights = beta ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64)
    return torch.tensordot(weights / weights.sum(), x, 1)


def clamped(z):
    return z.clamp(0, 1)


def mapped(net, x, parameters, base):
    """The output's rate, by the map, with these parameters; at `base` all rates are those of the spikes."""
    _, spikes = sk.record(net, x)
    rates = [weighted(x), *(weighted(spikes[f"{i}.spikes"]) for i in (1, 3))]
    at = rates[0]
    for index, (i, quantum) in enumerate(((0, 0.7), (2, 0.8))):
        level, origin = (
            (a @ p[f"{i}.weight"].T + p[f"{i}.bias"]) / quantum for a, p in ((at, parameters), (rates[index], base))
        )
        at = rates[index + 1] + clamped(level) - clamped(origin)
    return at @ parameters["4.weight"].T + parameters["4.bias"]


def test_gradients_are_those_of_the_map_between_rates(gradients, loss):
    """Central differences in every single parameter."""
    net, x = dense(), drive(20, 4, 6)
    result, found = gradients(DSR(), net, x, loss)
    base = {name: p.detach().clone() for name, p in net.named_parameters()}
    torch.testing.assert_close(result.loss, loss(mapped(net, x, base, base)[None]))
    for name, gradient in found.items():
        assert float(gradient.abs().max()) > 1e-4, name
        for index in range(gradient.numel()):
            sides = []
            for step in (1e-6, -1e-6):
                moved = {other: p.clone() for other, p in base.items()}
                moved[name].view(-1)[index] += step
                sides.append(loss(mapped(net, x, moved, base)[None]))
            slope = (sides[0] - sides[1]) / 2e-6
            torch.testing.assert_close(gradient.view(-1)[index], slope, rtol=1e-6, atol=1e-8, msg=f"{name} {index}")


def test_gradients_follow_the_equations_with_convolutions(gradients, same, loss, target):
    front = [nn.Conv2d(2, 4, 3, padding=1), lif(), nn.AvgPool2d(2), nn.Conv2d(4, 3, 2, stride=2), lif()]
    net = sk.Sequential(*front, nn.Flatten(), nn.Linear(12, 3)).double()
    nn.init.constant_(net[3].bias, 0.4)
    x = drive(10, 4, 2, 8, 8)
    _, found = gradients(DSR(), net, x, loss)
    c1, c2, out = net[0], net[3], net[6]
    with torch.no_grad():
        _, spikes = sk.record(net, x)
        r0, r1, r2 = weighted(x), weighted(spikes["1.spikes"]), weighted(spikes["4.spikes"])
        pooled = functional.avg_pool2d(r1, 2)
        z1, z2 = c1(r0), c2(pooled)
        d3 = (out(r2.flatten(1)).softmax(-1) - functional.one_hot(target, 3)) / 4
        d2 = (d3 @ out.weight).view_as(z2) * ((z2 > 0) & (z2 < 1))
        down = functional.conv_transpose2d(d2, c2.weight, stride=2)
        d1 = down.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4 * ((z1 > 0) & (z1 < 1))
        expected = {"6.weight": d3.T @ r2.flatten(1), "6.bias": d3.sum(0)}
        for name, layer, d, a in (("0", c1, d1, r0), ("3", c2, d2, pooled)):
            patches = functional.unfold(a, layer.kernel_size, padding=layer.padding, stride=layer.stride)
            product = torch.einsum("bol,bpl->op", d.flatten(2), patches)
            expected |= {f"{name}.weight": product.view_as(layer.weight), f"{name}.bias": d.sum((0, 2, 3))}
    same(found, expected)


def test_the_last_layer_is_backpropagation(gradients, same):
    """Behind it nothing is replaced: the output is weighed by w either way."""
    net, x = sk.Sequential(nn.Linear(6, 3), lif(), nn.Linear(3, 2)).double(), drive(12, 4, 6)

    def end(output):
        return output.square().sum()

    ours = gradients(DSR(), net, x, end)[1]
    theirs = gradients(BPTT(), net, x, lambda output: end(weighted(output)))[1]
    same(ours, theirs, ["2.weight", "2.bias"])


def test_a_leaky_readout_counts_by_its_gain(gradients, same, loss):
    """An LI at the end is a factor: the weighted mean of what it gives for a constant drive of 1."""
    x = drive(12, 4, 6)
    net = dense(sk.LI(exactly(0.6)))
    level = sk.LI(exactly(0.6))(torch.ones(12, 1, 1, dtype=torch.float64))
    gain = weighted(level).item()
    rates = weighted(net(x)).detach().requires_grad_()
    (error,) = torch.autograd.grad(loss(rates[None]), rates)
    found = gradients(DSR(), net, x, loss)[1]
    plain = sk.Sequential(*net[:5])
    expected = gradients(DSR(), plain, x, lambda output: (output[0] * error).sum() * gain)[1]
    same(found, expected)


def test_a_learned_threshold_is_the_quantum_of_the_map(gradients, loss):
    net = sk.Sequential(nn.Linear(6, 3), sk.LIF(exactly(BETA), exactly([0.6, 0.8, 1.0]), learn=["threshold"])).double()
    x = drive(20, 4, 6)
    with torch.no_grad():
        net[0].bias += 0.4
    found = gradients(DSR(), net, x, loss)[1]["1.threshold_raw"]
    drives = weighted(net[0](x)).detach()
    raw = net[1].threshold_raw.detach().clone().requires_grad_()
    rates = weighted(net(x)).detach()
    level = drives / raw.exp()
    inside = (level > 0) & (level < 1)
    assert inside.any()
    loss((rates + torch.where(inside, level - level.detach(), 0))[None]).backward()
    torch.testing.assert_close(found, raw.grad)


def test_no_gradient_passes_where_rates_are_clamped(gradients):
    """One neuron below its range, one in it, one above."""
    net = sk.Sequential(nn.Linear(1, 3), lif()).double()
    with torch.no_grad():
        net[0].weight.fill_(0.0)
        net[0].bias.copy_(torch.tensor([-0.5, 0.5, 1.5]))
    found = gradients(DSR(), net, torch.ones(20, 2, 1, dtype=torch.float64), lambda output: output.sum())[1]
    torch.testing.assert_close(found["0.bias"], exactly([0.0, 2.0, 0.0]))


@given(st.integers(1, 40), st.floats(0.5, 1.0), st.floats(0.2, 2.0), st.integers(0, 1000))
def test_the_map_is_off_by_the_charge_that_is_left(steps, beta, quantum, seed):
    """q·rate = drive - v[T] / Σ β^(T-k), for any input: what the clamp leaves out."""
    torch.manual_seed(seed)
    x = torch.randn(steps, 2, 5, dtype=torch.float64)
    neuron = sk.LIF(exactly(beta), exactly(0.3), reset_quantum=exactly(quantum))
    spikes, state = sk.run(neuron, x)
    total = sum(beta**k for k in range(steps))
    torch.testing.assert_close(
        quantum * weighted(spikes, beta), weighted(x, beta) - state[""]["v"] / total, rtol=0, atol=1e-12
    )


def test_the_output_and_the_statistics_are_those_of_the_network(loss):
    net = sk.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), lif(), nn.Linear(8, 3)).double()
    other = sk.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), lif(), nn.Linear(8, 3)).double()
    other.load_state_dict(net.state_dict())
    x = drive(9, 4, 6)
    assert torch.equal(DSR()(net, x, loss).output, other(x))
    for name, value in other.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    assert net[1].weight.grad.abs().max() > 0


def test_a_network_of_ones_own(gradients, same, loss):
    """Layers called on [T, B, ...] by themselves, and one batch of one sample, where T·B is T."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(6, 8), lif(), nn.Linear(8, 3), lif()

        def forward(self, x):
            return self.d(self.c(self.b(self.a(x))))

    net = Own().double()
    chain = sk.Sequential(net.a, net.b, net.c, net.d)
    for batch in (4, 1):
        x = drive(12, batch, 6)

        def end(output):
            return output.square().sum()

        own = gradients(DSR(), net, x, end)[1]
        expected = gradients(DSR(), chain, x, end)[1]
        same(own, {"a.weight": expected["0.weight"], "c.weight": expected["2.weight"]})


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (lambda: lif(beta=0.5), "all LIF must have one beta"),
        (lambda: sk.LIF(BETA, reset="hard"), "reset='soft'"),
        (lambda: sk.LIF(BETA, reset="none"), "reset='soft'"),
        (lambda: sk.LIF(BETA, norm=sk.MPBN(8)), "without a norm"),
        (lambda: sk.CUBALIF(0.5, BETA), "rates are known of LIF"),
        (lambda: sk.LIF(BETA, learn="beta"), "learns its beta"),
        (lambda: sk.LIF(torch.linspace(0.5, 0.9, 8)), "differs between its neurons"),
        (lambda: sk.RecurrentLIF(8, BETA), "RecurrentLIF"),
    ],
)
def test_what_has_no_representation_is_refused(loss, neuron, words):
    last = [nn.Linear(8, 8), lif(), nn.Linear(8, 3)] if words.startswith("all") else [nn.Linear(8, 3)]
    net = sk.Sequential(nn.Linear(6, 8), neuron(), *last)
    with pytest.raises(sk.errors.InputError, match=words):
        DSR()(net.double(), drive(5, 4, 6), loss)


def test_a_loop_over_time_is_refused(loss):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 3), lif()

        def forward(self, x):
            return torch.stack([self.fc(x_t) for x_t in x])

    class Scanned(Loop):
        def forward(self, x):
            return sk.scan(self, lambda carry, x_t: (carry, self.lif(x_t)), x, ())[0]

    for net in (Loop(), Scanned()):
        with pytest.raises(sk.errors.InputError, match="a loop over time has no weighted rates"):
            DSR()(net.double(), drive(8, 4, 3 if isinstance(net, Scanned) else 6), loss)
        assert all("forward" not in vars(m) and "integrate" not in vars(m) for m in net.modules())


def test_half_the_quantum_rounds_to_the_nearest():
    """The mean error of the clamp at T = 20, for noisy drives: with half the quantum there is no bias."""
    x = torch.rand(1, 1, 5000, dtype=torch.float64) * 1.4 - 0.2
    x = x + 0.3 * torch.randn(20, 1, 5000, dtype=torch.float64)
    bias = {}
    for threshold in (0.5, 1.0):
        spikes = sk.LIF(exactly(BETA), exactly(threshold), reset_quantum=exactly(1.0))(x)
        bias[threshold] = float((weighted(spikes) - clamped(weighted(x))).mean())
    assert abs(bias[0.5]) < 0.003
    assert bias[1.0] < -0.02
