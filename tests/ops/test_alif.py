"""What is special to the LIF with an adaptive threshold: ties, closed forms, finite differences, the integer loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit import surrogate
from spikekit.ops.alif import alif, alif_integer, alif_reference
from spikekit.ops.integer import STATE_MAX, IntegerRule, integer_reference
from spikekit.ops.lif import LIFRule, lif_reference

CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))
SOFT = LIFRule("soft", False, False, surrogate.ATan())


def inputs(shape, dtype, rest=False, parameter=()):
    states = [None if rest else make(shape[1:], dtype=dtype) for make in (torch.randn, torch.rand)]
    parameters = [torch.rand(parameter, dtype=dtype) * 0.5 + 0.4 for _ in range(5)]
    return [torch.randn(shape, dtype=dtype) * 0.7 + 0.4, *states, *parameters]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
def test_ties(reset, inclusive, detach, equal_to_reference):
    """On a grid many membranes are at the threshold exactly."""
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    x = whole(-2, 5, 6, 8, 50).double() / 4
    parameters = [torch.tensor(value, dtype=torch.float64) for value in (0.5, 0.75, 0.75, 0.5, 0.25)]
    (spikes, membranes, adaptations, _, _), _ = equal_to_reference(
        lambda *i: alif(*i, rule, keep_traces=True),
        lambda *i: alif_reference(*i, rule),
        [x, None, None, *parameters],
        (True, False, False, True, True),
    )
    ties = membranes[1:] == 0.75 + 0.25 * adaptations[:-1]
    assert ties.sum() > 5
    assert (spikes[1:][ties] == inclusive).all()


@pytest.mark.usefixtures("poison", "path")
@given(seed=st.integers(0, 2**31), choice=st.sampled_from(CHOICES), double=st.booleans())
def test_a_step_of_zero_makes_an_lif(seed, choice, double):
    torch.manual_seed(seed)
    rule = LIFRule(*choice, surrogate.ATan())
    x, v0, a0, beta, threshold, quantum, rho, rise = inputs((7, 2, 9), torch.float64 if double else torch.float32)
    spikes, membranes, _, v, _ = alif(
        x, v0, a0, beta, threshold, quantum, rho, torch.zeros_like(rise), rule, keep_traces=True
    )
    expected = lif_reference(x, v0, beta, threshold, quantum, rule)
    assert all(map(torch.equal, (spikes, membranes, v), expected))


@pytest.mark.usefixtures("path")
def test_the_adaptation_is_the_decaying_sum_of_the_spikes():
    tensors = inputs((12, 2, 9), torch.float64, rest=True)
    spikes, membranes, adaptations, _, a = alif(*tensors, SOFT, keep_traces=True)
    rho, rise = tensors[6:]
    for t in range(12):
        closed = sum(rho ** (t - k) * spikes[k] for k in range(t + 1))
        torch.testing.assert_close(adaptations[t], closed, rtol=1e-12, atol=1e-12)
        before = adaptations[t - 1] if t else torch.zeros_like(a)
        assert torch.equal(spikes[t] > 0, membranes[t] > tensors[4] + rise * before)
    assert torch.equal(adaptations[-1], a)


@pytest.mark.parametrize("op", [alif_reference, alif], ids=["reference", "sequence"])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("parameter", [(), (3,)], ids=["scalar", "per neuron"])
def test_gradcheck_on_a_smooth_spike(op, reset, parameter, poison, smooth_spike):
    """The step replaced by its surrogate's antiderivative: see test_lif_gradcheck."""
    curve = smooth_spike(surrogate.ATan(1.0))
    rule = LIFRule(reset, False, False, curve)
    tensors = [a.requires_grad_() for a in inputs((4, 2, 3), torch.float64, parameter=parameter)]
    assert torch.autograd.gradcheck(lambda *i: op(*i, rule), tensors)


def whole(low, high, *shape):
    return torch.randint(low, high, shape)


@given(
    seed=st.integers(0, 2**31),
    reset=st.sampled_from(["soft", "hard", "none"]),
    inclusive=st.booleans(),
    fires=st.booleans(),
)
def test_integers_without_a_step_are_those_of_an_lif(seed, reset, inclusive, fires):
    torch.manual_seed(seed)
    rule = IntegerRule(2, reset, inclusive, fires)
    sums = whole(-(2**17), 2**17, 8, 2, 9).float()
    values = [whole(-(2**16), 2**16, 9), whole(0, 4097, 9), whole(64, 2**22, 9), whole(1, 2**22, 9)]
    found = alif_integer(sums, *values, whole(0, 4097, 9), torch.zeros(9, dtype=torch.int64), rule)
    assert all(map(torch.equal, found, integer_reference(sums, *values, rule)))


def test_integers_by_hand():
    """No leak, drives of 100·64: thresholds 6,400, then 6,400 + b with b = 3,000, 1,500 + 3,000, ..."""
    rule = IntegerRule(0, "soft", True, True)
    values = [torch.tensor([value]) for value in (0, 4096, 6400, 6400, 2048, 3000)]
    spikes, membranes, v, b = alif_integer(torch.full((5, 1, 1), 100), *values, rule)
    assert membranes.flatten().tolist() == [6400, 6400, 12800, 12800, 12800]
    assert spikes.flatten().tolist() == [1, 0, 1, 1, 1]
    # 3000, 1500, 750 + 3000, 1875 + 3000, 2437 + 3000
    assert (v.item(), b.item()) == (6400, 5437)


@pytest.mark.parametrize(("inclusive", "fired"), [(False, [1, 0, 0, 0, 0]), (True, [1, 1, 1, 1, 1])])
def test_integers_stay_in_24_bits(inclusive, fired):
    rule = IntegerRule(0, "none", inclusive, True)
    values = [torch.tensor([value]) for value in (0, 4096, 64, 0, 4096, STATE_MAX)]
    spikes, _, v, b = alif_integer(torch.full((5, 1, 1), 2**16), *values, rule)
    assert (v.item(), b.item()) == (STATE_MAX, STATE_MAX)
    assert spikes.flatten().tolist() == fired


def test_integers_follow_the_floats():
    """The same neuron in both: membranes differ by the rounding of the decays alone."""
    sums = whole(-60, 100, 40, 4, 20)
    exact = [torch.tensor(value, dtype=torch.float64) for value in (0.75, 64.0, 64.0, 0.875, 8.0)]
    expected = alif_reference(sums.double(), None, None, *exact, SOFT)
    values = [torch.tensor(value) for value in (0, 3072, 64 * 64, 64 * 64, 3584, 8 * 64)]
    spikes, membranes, _, _ = alif_integer(sums, *values, IntegerRule(0, "soft", False, True))
    assert 0.1 < spikes.double().mean() < 0.9
    same = (spikes == expected[0]).cumprod(0)
    assert same.double().mean() > 0.95
    apart = (membranes / 64 - expected[1]).abs() * same
    assert float(apart.max()) < 0.2
