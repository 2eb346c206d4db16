from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikekit.ops import integer, paths
from spikekit.ops.integer import STATE_MAX, WRAP, IntegerRule, cpu, integer_lif, integer_reference
from spikekit.ops.integer.reference import decayed, wrapped

needs_kernels = pytest.mark.skipif(not cpu.supports(torch.float32), reason="no C compiler")
RESETS = st.sampled_from(["soft", "hard", "none"])


def case(seed, shape, exponent, dtype=torch.float32):
    """Sums up to what 32 bits hold behind the shift, and parameters over their whole ranges."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low, high, *size):
        return torch.randint(low, high, size, generator=generator)

    most = (2**25 >> exponent) - 1
    sums = whole(-most, most + 1, *shape) * whole(0, 2, *shape)
    sums = torch.where(whole(0, 3, *shape) > 0, sums // 64, sums).to(dtype)
    n = shape[2:]
    values = [
        whole(-STATE_MAX, STATE_MAX + 1, *n) // 2 ** whole(0, 12, *n),
        whole(0, 4097, *n),
        whole(1, 2**17, *n) * 64 // 2 ** whole(0, 8, *n),
        whole(-STATE_MAX, STATE_MAX + 1, *n) // 2 ** whole(0, 8, *n),
    ]
    return sums, values


@needs_kernels
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    exponent=st.integers(2, 7),
    reset=RESETS,
    inclusive=st.booleans(),
    fires=st.booleans(),
    double=st.booleans(),
)
def test_the_kernel_equals_the_reference_to_the_bit(seed, exponent, reset, inclusive, fires, double):
    # float32 holds the sums of these exponents exactly; wraps and both limits occur in nearly every draw.
    sums, values = case(seed, (5, 3, 4, 9), exponent, torch.float64 if double else torch.float32)
    rule = IntegerRule(exponent, reset, inclusive, fires)
    expected = integer_reference(sums, *values, rule)
    for found, wanted in zip(integer_lif(sums, *values, rule), expected, strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    spikes, none, last = integer_lif(sums, *values, rule, membranes=False)
    assert none.numel() == 0
    assert torch.equal(spikes, expected[0])
    assert torch.equal(last, expected[2])


@needs_kernels
def test_channels_last_and_any_other_order_give_the_same(poison):
    sums, values = case(1, (4, 3, 5, 6, 7), 3)
    rule = IntegerRule(3, "soft", False, True)
    expected = integer_reference(sums, *values, rule)
    images = sums.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 3))
    for order in (images, sums.transpose(0, 1).contiguous().transpose(0, 1), sums[..., :]):
        assert all(map(torch.equal, integer_lif(order, *values, rule), expected))
    assert integer_lif(images, *values, rule)[0].stride() == images.stride()


@needs_kernels
def test_many_neurons_on_several_threads():
    sums, values = case(2, (3, 4, 40_000), 2)
    rule = IntegerRule(2, "soft", True, True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert all(map(torch.equal, integer_lif(sums, *values, rule), integer_reference(sums, *values, rule)))
    finally:
        torch.set_num_threads(threads)


def test_the_reference_wraps_once_and_decays_towards_zero():
    u = torch.tensor([WRAP, WRAP + 64, -WRAP, -WRAP - 64, -WRAP + 1])
    assert wrapped(u).tolist() == [WRAP, -WRAP + 64, WRAP, WRAP - 64, -WRAP + 1]
    assert decayed(torch.tensor([5, -5, 4096]), torch.tensor(4095)).tolist() == [4, -4, 4095]


def test_without_kernels_the_loop_serves(monkeypatch):
    sums, values = case(3, (2, 2, 5), 4)
    rule = IntegerRule(4, "hard", False, True)
    expected = integer_lif(sums, *values, rule)
    monkeypatch.setattr(integer.cpu, "forward", None)
    monkeypatch.setattr(paths, "_choice", "reference")
    assert all(map(torch.equal, integer_lif(sums, *values, rule), expected))
    assert integer_lif(sums, *values, rule, membranes=False)[1].numel() == 0
