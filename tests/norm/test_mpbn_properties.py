"""What holds for any size: the order of the batch does not matter, nor where a sequence is cut."""

from __future__ import annotations

import copy

import torch
from hypothesis import given
from hypothesis import strategies as st

import spikekit as sk

SIZES = st.tuples(st.integers(2, 7), st.integers(2, 6), st.integers(1, 20), st.integers(1, 3))
RESETS = st.sampled_from(["soft", "hard", "none"])


def neuron(sizes, reset, each, training):
    _, _, channels, side = sizes
    shape = (channels, side, side) if each else channels
    return sk.LIF(0.8, 0.4, reset, norm=sk.MPBN(shape, momentum=0.4)).train(training)


def drive(sizes, seed):
    steps, batch, channels, side = sizes
    return torch.randn(steps, batch, channels, side, side, generator=torch.Generator().manual_seed(seed)) + 0.2


@given(SIZES, RESETS, st.booleans(), st.booleans(), st.integers(0, 9), st.integers(1, 6))
def test_chunked_is_whole(sizes, reset, each, training, seed, cut):
    whole = neuron(sizes, reset, each, training)
    pieces, x = copy.deepcopy(whole), drive(sizes, seed)
    cut = min(cut, len(x) - 1)
    expected, last = sk.run(whole, x)
    first, state = sk.run(pieces, x[:cut])
    second, state = sk.run(pieces, x[cut:], state)
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(state[""]["v"], last[""]["v"])
    for (name, a), b in zip(whole.named_buffers(), pieces.buffers(), strict=True):
        assert torch.equal(a, b), name


@given(SIZES, RESETS, st.booleans(), st.booleans(), st.integers(0, 9))
def test_the_order_of_the_batch_does_not_matter(sizes, reset, each, training, seed):
    lif = neuron(sizes, reset, each, training)
    twin, x = copy.deepcopy(lif), drive(sizes, seed)
    order = torch.randperm(sizes[1], generator=torch.Generator().manual_seed(seed))
    assert torch.equal(twin(x[:, order]), lif(x)[:, order])
    for (name, a), b in zip(lif.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@given(SIZES, st.booleans(), st.integers(0, 9), st.floats(0.5, 4), st.floats(-3, 3))
def test_scale_and_offset_of_the_drive_drop_out(sizes, each, seed, scale, offset):
    """Without a reset, a step is normalised against its own batch: only its shape decides, but for eps."""
    lif, x = neuron(sizes, "none", each, True).double(), drive(sizes, seed).double()
    lif.norm.eps = 1e-30
    _, seen = sk.record(lif, x, "norm.decision")
    _, scaled = sk.record(lif, x * scale + offset, "norm.decision")
    torch.testing.assert_close(*(trace["norm.decision"] for trace in (scaled, seen)), rtol=1e-7, atol=1e-7)
