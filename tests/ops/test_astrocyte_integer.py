"""Astrocytes in integers: the plain neuron where nothing is modulated, numbers by hand, and limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.ops.astrocyte.integer import CALCIUM_ONE, PARTS, SEGMENTS, Modulator, astrocyte_integer
from spikekit.ops.integer import STATE_MAX, IntegerRule
from spikekit.ops.integer.reference import integer_reference


def whole(low, high, *shape):
    return torch.randint(low, high, shape)


def modulator(acts_on, domains=3, scales=2, neurons=9, **given):
    """Any numbers that an astrocyte may have."""
    numbers = {
        "share": CALCIUM_ONE * domains // neurons,
        "heard_share": 0,
        "decay": whole(1, PARTS + 1, domains, scales),
        "weight": whole(-PARTS, PARTS + 1, domains, scales),
        "offset": whole(0, 2**24, domains),
        "table": whole(0, 2 * PARTS + 1, domains, SEGMENTS + 1),
    }
    return Modulator(acts_on, **numbers | given)


def flat(acts_on, value, **given):
    """One whose factor is always the same."""
    return modulator(acts_on, 1, 1, 1, table=torch.full((1, SEGMENTS + 1), value), **given)


@given(
    seed=st.integers(0, 2**31),
    acts_on=st.sampled_from(["gain", "threshold"]),
    reset=st.sampled_from(["soft", "hard", "none"]),
    inclusive=st.booleans(),
)
def test_a_factor_of_one_leaves_the_plain_neuron(seed, acts_on, reset, inclusive):
    torch.manual_seed(seed)
    rule = IntegerRule(2, reset, inclusive, fires=True)
    sums = whole(-(2**17), 2**17, 8, 2, 9).float()
    values = [whole(-(2**16), 2**16, 9), whole(0, 4097, 9), whole(64, 2**22, 9), whole(1, 2**22, 9)]
    one = modulator(acts_on, table=torch.full((3, SEGMENTS + 1), PARTS))
    found = astrocyte_integer(sums, *values, one, rule)
    assert all(map(torch.equal, found[:3], integer_reference(sums, *values, rule)))
    assert found[3].any() == found[0].any()


def test_a_threshold_by_hand():
    """Two neurons, drives of 100·64, no leak; a spike of both is calcium 2^22, of which half is lost in a step."""
    rule = IntegerRule(0, "hard", inclusive=False, fires=True)
    table = (torch.arange(SEGMENTS + 1) * 32)[None]
    own = modulator(
        "threshold", 1, 1, 2, decay=torch.tensor([[2048]]), weight=torch.tensor([[4096]]), offset=torch.tensor([4096]),
        table=table,
    )  # fmt: skip
    values = [torch.tensor(value) for value in ([0, 0], [4096, 4096], [6400 * 512] * 2, [0, 0])]
    sums = torch.tensor([[100, 100], [100, 99], [100, 100]])[:, None]
    spikes, membranes, v, c = astrocyte_integer(sums, *values, own, rule)
    # z = 1: 2 parts of 4,096. The threshold is 6400·512·2 / 4096 = 1600. Then c = 2^21, z = 2049, 4098 parts.
    assert spikes.flatten().tolist() == [1, 1, 0, 0, 0, 0]
    assert membranes.flatten().tolist() == [6400, 6400, 6400, 6336, 12800, 12736]
    assert (v.flatten().tolist(), c.item()) == ([12800, 12736], 2**19)


def test_a_gain_by_hand():
    """One neuron, drives of 100·64 and -100·64 times 3,000 of 4,096, and a bias that is multiplied too."""
    rule = IntegerRule(0, "none", inclusive=False, fires=True)
    values = [torch.tensor([value]) for value in (5, 0, 2**20, 0)]
    sums = torch.tensor([100, -100]).reshape(2, 1, 1)
    _, membranes, *_ = astrocyte_integer(sums, *values, flat("gain", 3000), rule)
    # 6405·3000 / 4096 = 4691.16..., -6395·3000 / 4096 = -4683.83..., cut off towards zero.
    assert membranes.flatten().tolist() == [4691, -4683]


def test_between_two_places_of_the_table_is_a_line():
    table = torch.zeros(1, SEGMENTS + 1, dtype=torch.int64)
    table[0, 5], table[0, 6] = 1000, 2000
    own = modulator("gain", 1, 1, 1, weight=torch.tensor([[4096]]), offset=torch.tensor([0]), table=table)
    calcium = torch.tensor([79, 80, 84, 95, 96, 111]) << 10
    assert own.factor(calcium.reshape(-1, 1, 1)).flatten().tolist() == [937, 1000, 1250, 1937, 2000, 125]


@pytest.mark.parametrize(("offset", "found"), [(0, 11), (2**26, 22), (-(2**26), 11)])
def test_beyond_the_table_is_its_end(offset, found):
    table = torch.full((1, SEGMENTS + 1), 15)
    table[0, 0], table[0, -2:] = 11, 22
    own = modulator("gain", 1, 1, 1, weight=torch.tensor([[0]]), offset=torch.tensor([offset]), table=table)
    assert own.factor(torch.zeros(1, 1, 1, dtype=torch.int64)).item() == found


def test_calcium_counts_to_one_and_falls_to_nothing():
    own = modulator("gain", 1, 3, 3, share=CALCIUM_ONE, decay=torch.tensor([[8, 100, 4096]]))
    c, ones = torch.zeros(1, 1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool)
    for _ in range(9_000):
        before, c = c, own.after(c, ones, 0)
        assert (before <= c).all()
    # More spikes than there are neurons count as all of them; the slow ones stop where a step would add less than one.
    assert (c >= CALCIUM_ONE - 4096).all()
    assert (c <= CALCIUM_ONE).all()
    for _ in range(9_000):
        c = own.after(c, ~ones, 0)
    assert not c.any()


def test_what_is_heard_counts_between_none_and_all():
    own = modulator("gain", 1, 1, 4, share=CALCIUM_ONE // 8, heard_share=CALCIUM_ONE // 4, decay=torch.tensor([[4096]]))
    c, spikes = torch.zeros(1, 1, 1, dtype=torch.int64), torch.tensor([[True, False, True, False]])
    found = [own.after(c, spikes, torch.tensor([[heard]])).item() / CALCIUM_ONE for heard in (-9, 0, 1, 2, 9)]
    assert found == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("inclusive", [False, True])
def test_thresholds_stay_above_zero_and_in_24_bits(inclusive):
    rule = IntegerRule(0, "none", inclusive, fires=True)
    values = [torch.tensor([value]) for value in (0, 4096, STATE_MAX - 63, 0)]
    rest = torch.zeros(1, 1, 1)
    assert not astrocyte_integer(rest, *values, flat("threshold", 0), rule)[0].any()
    high = torch.full((1, 1, 1), 2**17 - 1)
    values[0][:] = 64
    spikes, membranes, *_ = astrocyte_integer(high, *values, flat("threshold", 8192), rule)
    assert membranes.item() == STATE_MAX
    assert bool(spikes) == inclusive


def test_presynaptic_spikes_may_have_any_type():
    rule, own = IntegerRule(1, "soft", False, fires=True), modulator("gain", heard_share=99)
    sums, heard = whole(-99, 99, 6, 2, 9).float(), whole(0, 9, 6, 2, 3)
    values = [whole(-99, 99, 9), whole(0, 4097, 9), whole(64, 9999, 9), whole(1, 9999, 9)]
    found = [astrocyte_integer(sums, *values, own, rule, heard.to(dtype)) for dtype in (torch.int64, torch.float32)]
    assert all(map(torch.equal, *found))
    silent = astrocyte_integer(sums, *values, own, rule, 0 * heard)
    assert not torch.equal(silent[3], found[0][3])
    assert torch.equal(silent[3], astrocyte_integer(sums, *values, replace(own, heard_share=0), rule)[3])
