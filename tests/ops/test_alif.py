"""The LIF with an adaptive threshold: both fast paths against the reference, closed forms, the integer loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from spikekit import surrogate
from spikekit.ops import paths
from spikekit.ops.alif import alif, alif_integer, alif_reference, cpu
from spikekit.ops.integer import STATE_MAX, IntegerRule, integer_reference
from spikekit.ops.lif import LIFRule, lif_reference, reference, state_dtype, step

CURVE = surrogate.ATan().encode()
CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))
SOFT = LIFRule("soft", False, False, surrogate.ATan())


@pytest.fixture(params=["auto", "torch"])
def path(request):
    paths.set_path(request.param)
    yield request.param
    paths.set_path("auto")


def both(rule):
    return (
        (lambda *i: alif(*i, rule, keep_traces=True)),
        (lambda *i: alif_reference(*i, rule)),
    )


def inputs(shape=(6, 2, 3, 4, 5), dtype=torch.float32, rest=False, parameter=()):
    state = state_dtype(dtype)
    v0 = None if rest else torch.randn(shape[1:], dtype=state)
    a0 = None if rest else torch.rand(shape[1:], dtype=state)
    parameters = [torch.rand(parameter, dtype=state) * 0.5 + 0.4 for _ in range(5)]
    return [(torch.randn(shape) * 0.7 + 0.4).to(dtype), v0, a0, *parameters]


def channels_last(x):
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


def expanded(x):
    return x[:1].expand_as(x)


def test_the_kernels_serve():
    for dtype in (torch.float32, torch.float64):
        assert cpu.KERNELS.refusal(dtype) == ""


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
@pytest.mark.parametrize("parameter", [(), (3, 1, 1), (3, 4, 5)], ids=["scalar", "per channel", "per neuron"])
def test_rules(reset, inclusive, detach, parameter, equal_to_reference):
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    tensors = inputs(dtype=torch.float64, parameter=parameter)
    (spikes, *_), grads = equal_to_reference(*both(rule), tensors, (True, False, False, True, True))
    equal_to_reference(*both(rule), tensors, (True,) * 5)
    assert 0.05 < spikes.mean() < 0.95
    assert all(g.abs().max() > 0 for index, g in enumerate(grads) if index != 5 or reset == "soft")


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
def test_ties(reset, inclusive, detach, equal_to_reference):
    """On a grid many membranes are at the threshold exactly."""
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    x = whole(-2, 5, 6, 8, 50).double() / 4
    parameters = [torch.tensor(value, dtype=torch.float64) for value in (0.5, 0.75, 0.75, 0.5, 0.25)]
    (spikes, membranes, adaptations, _, _), _ = equal_to_reference(
        *both(rule), [x, None, None, *parameters], (True, False, False, True, True)
    )
    ties = membranes[1:] == 0.75 + 0.25 * adaptations[:-1]
    assert ties.sum() > 5
    assert (spikes[1:][ties] == inclusive).all()


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.clone, channels_last, expanded])
@pytest.mark.parametrize("rest", [True, False])
def test_layouts_and_dtypes(dtype, layout, rest, equal_to_reference):
    x, *others = inputs(dtype=dtype, rest=rest, parameter=(3, 1, 1))
    outputs, _ = equal_to_reference(*both(SOFT), [layout(x), *others], (True, False, False, True, True))
    state = state_dtype(dtype)
    assert [y.dtype for y in outputs] == [dtype, state, state, state, state]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (4, 1, 33), (2, 1, 1100), (3, 2, 17_000)], ids=str)
@pytest.mark.parametrize("parameter", [False, True], ids=["scalar", "per neuron"])
def test_shapes(shape, parameter, equal_to_reference):
    tensors = inputs(shape, torch.float64, parameter=shape[2:] if parameter else ())
    rule = LIFRule("hard", False, False, surrogate.ATan())
    equal_to_reference(*both(rule), tensors, (True, False, False, True, True))


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("wanted", range(5))
@pytest.mark.parametrize("rest", [True, False])
def test_gradients_from_each_output_alone(wanted, rest, equal_to_reference):
    use = tuple(index == wanted for index in range(5))
    equal_to_reference(*both(SOFT), inputs((4, 2, 5), torch.float64, rest=rest), use)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("wanted", range(8))
def test_one_gradient_at_a_time(wanted, poison):
    tensors, grads = inputs((4, 2, 5), torch.float64), []
    for op in (alif, alif_reference):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(tensors)]
        spikes, _, _, v, a = op(*leaves, SOFT)
        ((spikes * tensors[0]).sum() + v.square().sum() + a.square().sum()).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(8)]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("curve", [surrogate.Sigmoid(), surrogate.Triangle(), surrogate.SechBump()], ids=str)
def test_other_surrogates(curve, equal_to_reference):
    rule = LIFRule("soft", False, False, curve)
    equal_to_reference(*both(rule), inputs((5, 2, 7)), (True, False, False, True, True))


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("parameter", [(), (8,)], ids=["scalar", "per neuron"])
def test_inference_gives_the_numbers_of_training(reset, parameter):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    tensors = inputs((5, 3, 8), parameter=parameter)
    expected = alif_reference(*tensors, rule)
    spikes, membranes, adaptations, v, a = alif(*tensors, rule)
    assert membranes is None
    assert adaptations is None
    assert all(map(torch.equal, (spikes, v, a), (expected[0], *expected[3:])))


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
def test_gradcheck_on_a_smooth_spike(op, reset, parameter, poison, monkeypatch):
    """The step replaced by its surrogate's antiderivative: see test_lif_gradcheck."""
    curve = surrogate.ATan(1.0)
    monkeypatch.setattr(reference, "fire", lambda u, threshold, rule: curve.antiderivative(u - threshold))
    monkeypatch.setattr(
        step, "spike", lambda u, threshold, inclusive, out: out.copy_(curve.antiderivative(u - threshold))
    )
    monkeypatch.setattr(paths, "_choice", "torch")
    rule = LIFRule(reset, False, False, curve)
    tensors = [a.requires_grad_() for a in inputs((4, 2, 3), torch.float64, parameter=parameter)]
    assert torch.autograd.gradcheck(lambda *i: op(*i, rule), tensors)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("keep", "rest"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(keep, rest, dtype):
    tensors = inputs((3, 2, 4), dtype, rest, (4,))
    if keep:
        tensors = [None if a is None else a.requires_grad_() for a in tensors]
    torch.library.opcheck(torch.ops.spikekit.alif.default, (*tensors, "soft", False, False, *CURVE, keep))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("needs", [[True] * 8, [True, *[False] * 7]], ids=["all", "x"])
@pytest.mark.parametrize("traces", [True, False])
def test_opcheck_backward(needs, traces):
    x, v0, a0, *parameters = inputs((3, 2, 4), parameter=(4,))
    end = torch.ones(()).expand(x.shape[1:])
    of_traces = [torch.randn_like(x) if traces else None for _ in range(2)]
    upstream = (torch.randn_like(x), *of_traces, end, None)
    tensors = (x, torch.rand_like(x), v0, a0, *parameters)
    torch.library.opcheck(
        torch.ops.spikekit.alif_backward.default, (*upstream, *tensors, "soft", False, False, *CURVE, needs)
    )


def test_fake_kernel_knows_the_shapes():
    with FakeTensorMode():
        x, scalars = torch.empty(5, 2, 3, dtype=torch.float16), [torch.empty(()) for _ in range(5)]
        outputs = torch.ops.spikekit.alif(x, None, None, *scalars, "soft", False, False, *CURVE, True)
    shapes = [(5, 2, 3)] * 3 + [(2, 3)] * 2
    assert [tuple(y.shape) for y in outputs] == shapes
    assert [y.dtype for y in outputs] == [torch.float16, *[torch.float32] * 4]


@pytest.mark.parametrize("batch", [1, 3, 130])
def test_threads_do_not_change_a_bit(batch):
    tensors = inputs((20, batch, 700))
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(alif(*tensors, SOFT, keep_traces=True))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


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
