"""Astrocytes as a part of an LIF: what they compute, whole, in pieces and beside the plain neuron."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spikekit as sk
from tests.neurons.astrocytes import ACTS, RESETS, SENSES, call, drive, neuron, spikes


@pytest.mark.parametrize(("acts_on", "senses", "reset"), list(itertools.product(ACTS, SENSES, RESETS)))
def test_a_strength_of_zero_is_the_plain_neuron_bit_for_bit(acts_on, senses, reset):
    x = drive(30)
    v0 = torch.randn(3, 6)
    weights = torch.randn(30, 3, 6)
    found = []
    for lif in (neuron(acts_on, senses, 0.0, reset), sk.LIF(0.9, 0.6, reset, learn=("beta", "threshold"))):
        leaf, start = x.clone().requires_grad_(), v0.clone().requires_grad_()
        state = {"v": start}
        before = {}
        if lif.astrocyte is not None:
            state["c"] = torch.rand(3, 3, 2)
            before = {} if senses == "post" else {"presynaptic": spikes(x)}
        with sk.state.Session({id(m): n for n, m in lif.named_modules()}, {"": state}, {"": {"membrane"}}) as session:
            y = lif(leaf, **before)
        v = session.new[""]["v"]
        grads = torch.autograd.grad(
            (y * weights).sum() + v.square().sum(), [leaf, start, lif.beta_raw, lif.threshold_raw]
        )
        found.append([y, v, session.traces["membrane"][0], *grads])
    assert 0.1 < found[0][0].mean() < 0.9
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("acts_on", "senses"), list(itertools.product(ACTS, SENSES)))
def test_an_astrocyte_does_something(acts_on, senses):
    x = drive(40)
    before = spikes(x)
    plain = sk.LIF(0.9, 0.6)(x)
    assert torch.equal(call(neuron(acts_on, senses), x, before), plain) == (acts_on == "plasticity")


class Streams(nn.Module):
    def __init__(self, acts_on, senses):
        super().__init__()
        self.lif = neuron(acts_on, senses)

    def forward(self, x):
        return call(self.lif, x, (x > 0.5).to(x.dtype))


@given(
    seed=st.integers(0, 2**31),
    acts_on=st.sampled_from(ACTS),
    senses=st.sampled_from(SENSES),
    pieces=st.lists(st.integers(1, 7), min_size=1, max_size=12),
)
def test_pieces_give_the_numbers_of_the_whole(seed, acts_on, senses, pieces):
    torch.manual_seed(seed)
    net, x = Streams(acts_on, senses), drive(sum(pieces))
    with torch.no_grad():
        whole, last = sk.run(net, x)
    state, found = None, []
    for piece in x.split(pieces):
        y, state = sk.run(net, piece, state)
        found.append(y)
    assert torch.equal(torch.cat(found), whole)
    assert all(torch.equal(state["lif"][name], last["lif"][name]) for name in ("v", "c"))


def test_the_state_does_not_grow_with_the_sequence():
    net, sizes = neuron(), []
    for steps in (1, 10, 1000):
        state = sk.run(net, drive(steps))[1][""]
        sizes.append({name: tuple(value.shape) for name, value in state.items()})
    assert sizes[0] == sizes[1] == sizes[2] == {"v": (3, 6), "c": (3, 3, 2)}


@pytest.mark.parametrize(("acts_on", "senses"), list(itertools.product(ACTS, SENSES)))
def test_causal(acts_on, senses):
    """What comes later changes nothing, and a loss at step t has no gradient behind it."""
    x, other = drive(20), drive(20)
    before, others = spikes(x), spikes(x)
    other[:12], others[:12] = x[:12], before[:12]
    net = neuron(acts_on, senses)
    one, two = call(net, x, before), call(net, other, others)
    assert torch.equal(one[:12], two[:12])
    assert not torch.equal(one[12:], two[12:])
    leaf, sensed = x.clone().requires_grad_(), before.clone().requires_grad_()
    call(net, leaf, sensed)[12].sum().backward()
    assert leaf.grad[12].any()
    assert not leaf.grad[13:].any()
    if senses != "post" and acts_on != "plasticity":
        # What arrives at a step is felt from the next step on.
        assert sensed.grad[:12].any()
        assert not sensed.grad[12:].any()


@given(seed=st.integers(0, 2**31), times=st.lists(st.floats(0.1, 1e6), min_size=1, max_size=4))
def test_calcium_is_bounded(seed, times):
    torch.manual_seed(seed)
    net = sk.LIF(0.9, 0.01, "none", astrocyte=sk.Astrocyte(7, tuple(times), strength=0.9))
    x = torch.rand(60, 2, 49) + torch.randint(0, 2, (60, 1, 1)).cummax(0).values
    _, found = sk.record(net, x, ["calcium", "modulation"])
    assert ((found["calcium"] >= 0) & (found["calcium"] <= 1)).all()
    assert ((found["modulation"] > 0.1) & (found["modulation"] < 1.9)).all()
    _, state = sk.run(net, torch.ones(500, 2, 49))
    assert (state[""]["c"] <= 1).all()


@pytest.mark.parametrize("senses", SENSES)
def test_traces_hold_the_equations(senses):
    x = drive(15, 2, 6, 2, 3).double()
    before = spikes(x, 12)
    net = neuron(senses=senses, reset="none").double()
    names = ["calcium", "modulation", "membrane", "spikes", "drive"]
    with torch.no_grad():
        _, r = sk.record(Given(net, before), x, [f"net.{name}" for name in names])
    calcium, g, u, s, _ = (r[f"net.{name}"] for name in names)
    assert calcium.shape == (15, 2, 3, 2)
    assert g.shape == (15, 2, 3)
    own, arriving = s.reshape(15, 2, 3, -1).mean(-1), before.reshape(15, 2, 3, -1).mean(-1)
    a = {"post": own, "pre": arriving, "both": (own + arriving) / 2}[senses]
    decay = torch.exp(-1 / torch.tensor([4.0, 30.0], dtype=torch.float64))
    for t in range(15):
        closed = sum((1 - decay) * decay ** (t - k) * a[k].unsqueeze(-1) for k in range(t + 1))
        torch.testing.assert_close(calcium[t], closed, rtol=1e-6, atol=1e-7)
        z = net.astrocyte.bias + (net.astrocyte.weight * (calcium[t - 1] if t else 0 * closed)).sum(-1)
        torch.testing.assert_close(g[t], 1 + net.astrocyte.strength * z / (1 + z.abs()), rtol=1e-12, atol=1e-12)
        last = u[t - 1] if t else 0
        expected = net.beta * last + g[t].repeat_interleave(2, -1)[..., None, None] * x[t]
        torch.testing.assert_close(u[t], expected, rtol=1e-12, atol=1e-12)


class Given(nn.Module):
    def __init__(self, net, before):
        super().__init__()
        self.net, self.before = net, before

    def forward(self, x):
        return call(self.net, x, self.before)


def test_plasticity_gates_the_gradient_of_the_drive_and_nothing_else():
    x = drive(15)
    net, plain = neuron("plasticity"), sk.LIF(0.9, 0.6, learn=("beta", "threshold"))
    _, r = sk.record(net, x, "modulation")
    grads = []
    for lif in (net, plain):
        leaf = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(lif(leaf).sum(), [leaf, lif.beta_raw, lif.threshold_raw]))
    g = r["modulation"].repeat_interleave(2, -1)
    assert (g != 1).any()
    torch.testing.assert_close(grads[0][0], grads[1][0] * g)
    assert torch.equal(grads[0][1], grads[1][1])
    assert torch.equal(grads[0][2], grads[1][2])


def test_tripartite_synapse_hands_the_spikes_over():
    astrocyte = sk.Astrocyte(4, (5.0,), senses="both", strength=0.6, weight=5.0)
    lif, linear = sk.LIF(astrocyte=astrocyte), nn.Linear(16, 8)
    net = sk.Sequential(sk.LIF(), sk.TripartiteSynapse(linear, lif), nn.Linear(8, 2))
    x = drive(12, 3, 16) * 2
    with torch.no_grad():
        before = sk.LIF()(x)
        expected = net[2](lif(linear(before), presynaptic=before))
        assert torch.equal(net(x), expected)
    _, state = sk.run(net, x)
    assert set(state) == {"0", "1.neuron"}
    net(x).sum().backward()
    assert linear.weight.grad.any()
