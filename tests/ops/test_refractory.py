"""What is special to the LIF with a refractory period: what is held and lost, finite differences, integers, Lava."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit import surrogate
from spikekit.ops.integer import IntegerRule, integer_reference
from spikekit.ops.lif import LIFRule, lif_reference
from spikekit.ops.refractory import refractory, refractory_integer, refractory_reference

CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))
SOFT = LIFRule("soft", False, False, surrogate.ATan())


def inputs(shape, dtype=torch.float32, rest=False, parameter=()):
    v0 = None if rest else torch.randn(shape[1:], dtype=dtype)
    parameters = [torch.rand(parameter, dtype=dtype) * 0.5 + 0.4 for _ in range(3)]
    return [torch.randn(shape, dtype=dtype) * 0.7 + 0.6, v0, *parameters]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
def test_ties(reset, inclusive, detach, equal_to_reference):
    """On a grid many membranes are at the threshold exactly."""
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    x = whole(-2, 5, 6, 8, 50).double() / 4
    parameters = [torch.tensor(value, dtype=torch.float64) for value in (0.5, 0.75, 0.75)]
    (spikes, membranes, countdowns, _, _), _ = equal_to_reference(
        lambda x, *values: refractory(x, None, None, *values, 1, rule, keep_traces=True),
        lambda x, *values: refractory_reference(x, None, None, *values, 1, rule),
        [x, *parameters],
        (True, False, False, True, False),
    )
    ties = (membranes[1:] == 0.75) & (countdowns[:-1] == 0)
    assert ties.sum() > 5
    assert (spikes[1:][ties] == inclusive).all()


@pytest.mark.usefixtures("poison", "path")
@given(seed=st.integers(0, 2**31), choice=st.sampled_from(CHOICES), double=st.booleans())
def test_a_period_of_zero_makes_an_lif(seed, choice, double):
    torch.manual_seed(seed)
    rule = LIFRule(*choice, surrogate.ATan())
    x, v0, *parameters = inputs((7, 2, 9), torch.float64 if double else torch.float32)
    spikes, membranes, countdowns, v, _ = refractory(x, v0, None, *parameters, 0, rule, keep_traces=True)
    assert not countdowns.any()
    assert all(map(torch.equal, (spikes, membranes, v), lif_reference(x, v0, *parameters, rule)))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("period", [1, 3, 50])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_after_a_spike_the_neuron_holds_still(period, reset):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    x, _, *parameters = inputs((20, 2, 9), rest=True)
    spikes, membranes, countdowns, _, r = refractory(x, None, None, *parameters, period, rule, keep_traces=True)
    assert 0 < spikes.mean() <= 1 / (period + 1) + 1 / 20
    for t, sample, neuron in spikes.nonzero().tolist():
        after = slice(t + 1, t + 1 + period)
        quiet = membranes[after, sample, neuron]
        assert not spikes[after, sample, neuron].any()
        assert (quiet == quiet[:1]).all()
        left = period - torch.arange(len(quiet)) - 1
        assert torch.equal(countdowns[after, sample, neuron], left.float())
    assert torch.equal(countdowns[-1], r)


@pytest.mark.usefixtures("path")
def test_what_is_lost_has_no_gradient_and_may_be_anything():
    x = torch.tensor([2.0, torch.inf, torch.nan, 0.5]).reshape(4, 1, 1).requires_grad_()
    values = [torch.tensor(value) for value in (0.5, 1.0, 1.0)]
    spikes, membranes, _, v, _ = refractory(x, None, None, *values, 2, SOFT, keep_traces=True)
    assert membranes.flatten().tolist() == [2, 1, 1, 1]
    assert spikes.flatten().tolist() == [1, 0, 0, 0]
    v.sum().backward()
    assert x.grad[1:3].abs().sum() == 0
    assert x.grad[3] == 1 - surrogate.ATan().derivative(torch.zeros(()))


def test_a_strong_drive_fires_once_a_period():
    x = torch.full((13, 1, 1), 5.0)
    values = [torch.tensor(value) for value in (0.9, 1.0, 1.0)]
    for period in range(5):
        spikes, *_ = refractory(x, None, None, *values, period, SOFT)
        assert spikes.flatten().nonzero().flatten().tolist() == list(range(0, 13, period + 1))


@pytest.mark.parametrize("op", [refractory_reference, refractory], ids=["reference", "sequence"])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("parameter", [(), (3,)], ids=["scalar", "per neuron"])
def test_gradcheck_on_a_smooth_spike(op, reset, parameter, poison, smooth_spike):
    """The step replaced by its surrogate's antiderivative, see test_lif_gradcheck; the countdown runs by itself."""
    curve = smooth_spike(surrogate.ATan(1.0))
    rule = LIFRule(reset, False, False, curve)
    tensors = inputs((4, 2, 3), torch.float64, parameter=parameter)
    r0 = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0]], dtype=torch.float64)

    def outputs(x, v0, *parameters):
        # A spike that is not 0 or 1 would set no whole countdown.
        spikes, _, _, v, _ = op(x, v0, r0, *parameters, 0, rule)
        return spikes, v

    assert torch.autograd.gradcheck(outputs, [a.requires_grad_() for a in tensors])


def whole(low, high, *shape):
    return torch.randint(low, high, shape)


@given(
    seed=st.integers(0, 2**31),
    reset=st.sampled_from(["soft", "hard", "none"]),
    inclusive=st.booleans(),
    fires=st.booleans(),
)
def test_integers_without_a_period_are_those_of_an_lif(seed, reset, inclusive, fires):
    torch.manual_seed(seed)
    rule = IntegerRule(2, reset, inclusive, fires)
    sums = whole(-(2**17), 2**17, 8, 2, 9).float()
    values = [whole(-(2**16), 2**16, 9), whole(0, 4097, 9), whole(64, 2**22, 9), whole(1, 2**22, 9)]
    *found, r = refractory_integer(sums, *values, torch.zeros(9, dtype=torch.int64), rule)
    assert all(map(torch.equal, found, integer_reference(sums, *values, rule)))
    assert not r.any()


def test_integers_by_hand():
    """Half of v is kept; neuron 0 has a period of 2 and neuron 1 none. What is held is 6400 - 6000."""
    rule = IntegerRule(0, "soft", True, True)
    values = [torch.tensor(value) for value in (0, 2048, 6400, 6000, [2, 0])]
    spikes, membranes, v, r = refractory_integer(torch.full((5, 1, 2), 100), *values, rule)
    assert membranes[:, 0].T.tolist() == [[6400, 400, 400, 6600, 600], [6400, 6600, 6700, 6750, 6775]]
    assert spikes[:, 0].T.tolist() == [[1, 0, 0, 1, 0], [1, 1, 1, 1, 1]]
    assert (v.tolist(), r.tolist()) == ([[600, 775]], [[1, 0]])


@given(seed=st.integers(0, 2**31), period=st.integers(0, 4), reset=st.sampled_from(["soft", "hard", "none"]))
def test_integers_are_the_floats_where_nothing_rounds(seed, period, reset):
    """Without leak all numbers are whole, in both."""
    torch.manual_seed(seed)
    sums = whole(-60, 100, 20, 3, 7)
    one, threshold = torch.tensor(1.0, dtype=torch.float64), torch.tensor(96.0, dtype=torch.float64)
    rule = LIFRule(reset, False, False, surrogate.ATan())
    expected = refractory_reference(sums.double(), None, None, one, threshold, threshold, period, rule)
    values = [torch.tensor(value) for value in (0, 4096, 96 * 64, 96 * 64, period)]
    spikes, membranes, v, r = refractory_integer(sums, *values, IntegerRule(0, reset, False, True))
    assert torch.equal(spikes.double(), expected[0])
    assert torch.equal(membranes.double() / 64, expected[1])
    assert torch.equal(v.double() / 64, expected[3])
    assert torch.equal(r.double(), expected[4])


LAVA = """
import json, sys
import numpy as np
from lava.proc.lif.models import PyLifRefractoryModelFloat as Model

drive = np.array(json.load(sys.stdin))
model = object.__new__(Model)
n = drive.shape[1]
model.u, model.v, model.bias_mant = np.zeros(n), np.zeros(n), np.zeros(n)
model.du, model.dv, model.vth = 1.0, 0.25, 1.0
model.refractory_period, model.refractory_period_end = 3, np.zeros(n, dtype=int)
spikes, membranes = [], []
for t, a in enumerate(drive):
    model.time_step = t + 1
    model.subthr_dynamics(activation_in=a)
    s = model.spiking_activation()
    membranes.append(model.v.tolist())
    spikes.append(s.astype(int).tolist())
    model.process_spikes(spike_vector=s)
print(json.dumps([spikes, membranes]))
"""


def test_lava_computes_the_same(lava_says):
    x = (torch.randn(40, 1, 30, dtype=torch.float64) * 0.5 + 0.4).mul(64).round().div(64)
    values = [torch.tensor(value, dtype=torch.float64) for value in (0.75, 1.0, 1.0)]
    rule = LIFRule("hard", False, False, surrogate.ATan())
    spikes, membranes, *_ = refractory(x, None, None, *values, 3, rule, keep_traces=True)
    theirs, voltages = lava_says(LAVA, x[:, 0].tolist())
    assert spikes.sum() > 50
    assert spikes[:, 0].int().tolist() == theirs
    assert membranes[:, 0].tolist() == voltages
