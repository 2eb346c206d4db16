"""Chunked = whole, exactly: any split of a sequence through `run` gives the numbers of one call."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spikekit as sk

STEPS = 9


class Residual(nn.Module):
    """A short cut round a neuron, and one neuron used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.lif = nn.Conv2d(2, 2, 3, padding=1), sk.LIF(torch.tensor([0.3, 0.9]), 0.5)

    def forward(self, x):
        x = x + self.lif(sk.fold_time(self.conv)(x))
        return self.lif(x)


class Recurrent(nn.Module):
    """Feedback through a weight matrix, with two neurons inside the loop and one behind it."""

    def __init__(self):
        super().__init__()
        self.feed, self.back = nn.Linear(4, 5), nn.Linear(5, 5)
        self.inner = nn.ModuleList([sk.LIF(0.8, 0.5), sk.LI(0.5)])
        self.readout = sk.LI(0.9)

    def forward(self, x):
        def step(carry, x_t):
            y = self.inner[0](self.feed(x_t) + self.back(carry["h"]).unsqueeze(0))
            z = self.inner[1](y)
            return {"h": z[0], "count": carry["count"] + y[0].sum(-1)}, y + z

        rest = {"h": x.new_zeros(x.shape[1], 5), "count": x.new_zeros(x.shape[1])}
        y, carry = sk.scan(self, step, x, rest)
        return self.readout(y) + carry["count"][:, None] * 0


def dense():
    return sk.Sequential(nn.Linear(4, 6), sk.LIF(0.7, 0.5), nn.Linear(6, 3), sk.LI(0.8))


def conv():
    return sk.Sequential(
        nn.Conv2d(2, 3, 3), sk.LIF(0.9, 0.4, "hard"), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5), sk.IF(0.3)
    )


def nested():
    return sk.Sequential(sk.Sequential(nn.Linear(4, 4), sk.LIF(0.6, 0.3)), Recurrent())


NETS = {
    "dense": (dense, (4,)),
    "conv": (conv, (2, 6, 6)),
    "residual": (Residual, (2, 5, 5)),
    "recurrent": (Recurrent, (4,)),
    "nested": (nested, (4,)),
    "one neuron": (lambda: sk.LIF(0.7, 0.5, "none"), (3,)),
    "one current": (lambda: sk.CUBALIF(0.6, 0.7, 0.5, "hard"), (3,)),
    "one recurrent": (lambda: sk.RecurrentLIF(3, 0.7, 0.5, bias=True), (3,)),
    "one adaptive": (lambda: sk.ALIF(0.7, 0.4, rho=0.8, step=0.3), (3,)),
    "one refractory": (lambda: sk.RefractoryLIF(2, 0.7, 0.4), (3,)),
    "one sigma-delta": (lambda: sk.SigmaDelta(0.5, bias=0.2), (3,)),
}


def lengths(cuts):
    edges = [0, *sorted(cuts), STEPS]
    return [stop - start for start, stop in pairwise(edges)]


def in_pieces(net, x, cuts):
    state, outputs = None, []
    for piece in x.split(lengths(cuts)):
        y, state = sk.run(net, piece, state)
        outputs.append(y)
    return torch.cat(outputs), state


@pytest.mark.parametrize("kind", NETS)
@given(cuts=st.sets(st.integers(1, STEPS - 1)), seed=st.integers(0, 2**31))
def test_any_split_gives_the_same_numbers(kind, cuts, seed):
    torch.manual_seed(seed)
    make, shape = NETS[kind]
    # Double, because a matrix product may round differently for another number of rows.
    net, x = make().double(), torch.randn(STEPS, 2, *shape, dtype=torch.float64)
    with torch.no_grad():
        whole, state = sk.run(net, x)
        pieces, last = in_pieces(net, x, cuts)
    exact = kind.startswith("one")
    torch.testing.assert_close(pieces, whole, rtol=0, atol=0 if exact else 1e-12)
    torch.testing.assert_close(last, state, rtol=0, atol=0 if exact else 1e-12)


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@given(
    cuts=st.sets(st.integers(1, STEPS - 1)),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**31),
)
def test_a_neuron_is_exact_in_every_dtype(reset, cuts, dtype, seed):
    torch.manual_seed(seed)
    net = sk.Sequential(
        sk.LIF(0.8, reset=reset),
        sk.LI(0.6),
        sk.CUBALIF(0.7, 0.5, reset=reset),
        sk.RecurrentLIF(3, 0.5, 0.4, reset),
        sk.ALIF(0.5, 0.2, reset, step=0.3),
        sk.SigmaDelta(0.5),
        sk.RefractoryLIF(1, 0.5, 0.3, reset),
        sk.LIF(0.5),
    )
    x = torch.randn(STEPS, 2, 3).to(dtype)
    whole, state = sk.run(net, x)
    pieces, last = in_pieces(net, x, cuts)
    assert torch.equal(whole, net(x))
    assert torch.equal(pieces, whole)
    for name, entry in state.items():
        for what, value in entry.items():
            assert torch.equal(value, last[name][what])


@pytest.mark.parametrize("kind", NETS)
def test_gradients_flow_through_the_state(kind):
    """Without detach, back-propagation through the pieces is back-propagation through the whole."""
    make, shape = NETS[kind]
    net, x = make().double(), torch.randn(STEPS, 2, *shape, dtype=torch.float64)
    grads = []
    for forward in (net, lambda x: in_pieces(net, x, {2, 3, 7})[0]):
        leaf = x.clone().requires_grad_()
        grads.append(torch.autograd.grad(forward(leaf).square().sum(), [leaf, *net.parameters()]))
    for whole, pieces in zip(*grads, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-10, atol=1e-12)


def test_a_detached_state_cuts_the_graph():
    lif = sk.LIF(0.9)
    x = torch.randn(4, 1, 2, requires_grad=True)
    _, state = sk.run(lif, x)
    y, _ = sk.run(lif, torch.randn(3, 1, 2, requires_grad=True), sk.map_state(torch.detach, state))
    y.sum().backward()
    assert x.grad is None


def test_a_state_can_be_used_twice():
    """A state is a value: two continuations of one beginning do not see each other."""
    net = dense()
    x = torch.randn(STEPS, 2, 4)
    with torch.no_grad():
        _, state = sk.run(net, x[:4])
        kept = sk.map_state(torch.clone, state)
        first, _ = sk.run(net, x[4:], state)
        sk.run(net, x[4:] * 3, state)
        again, _ = sk.run(net, x[4:], state)
    assert torch.equal(first, again)
    torch.testing.assert_close(state, kept, rtol=0, atol=0)


def test_a_wrong_state_would_be_seen():
    """The split tests can fail: rest in the middle gives other numbers."""
    lif = sk.LIF(0.9)
    x = torch.rand(STEPS, 2, 3)
    assert not torch.equal(torch.cat([lif(x[:4]), lif(x[4:])]), lif(x))
