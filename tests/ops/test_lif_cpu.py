"""The C kernels of the LIF against the reference: spikes bit for bit, every gradient close, over the whole grid."""

from __future__ import annotations

import itertools

import pytest
import torch

from spikekit import native, surrogate
from spikekit.ops.lif import LIFRule, lif, lif_reference, state_dtype
from tests.ops.layouts import (
    batch_first,
    channels_last,
    contiguous,
    every_second_neuron,
    every_second_step,
    expanded,
    offset,
    time_innermost,
)

RESETS = ("soft", "hard", "none")
CURVES = [
    surrogate.ATan(),
    surrogate.Sigmoid(),
    surrogate.FastSigmoid(5.0),
    surrogate.Triangle(),
    surrogate.Rectangle(),
    surrogate.StraightThrough(),
    surrogate.SechBump(),
    surrogate.Exponential(),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
STEPS = [1, 2, 31, 32, 33, 70]

pytestmark = pytest.mark.usefixtures("poison")


def both(rule):
    """Spikes and last v, by the kernels and by the definition."""

    def fast(*inputs):
        spikes, _, v = lif(*inputs, rule)
        if spikes.grad_fn is not None:
            assert type(spikes.grad_fn).__name__ == "Backward_lifBackward"
        return spikes, v

    def reference(*inputs):
        spikes, _, v = lif_reference(*inputs, rule)
        return spikes, v

    return fast, reference


def drive(*shape, dtype=torch.float32):
    return (torch.randn(shape) + 0.4).to(dtype)


def scalars(dtype, *values):
    return [torch.tensor(value, dtype=state_dtype(dtype)) for value in values]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("neurons", [(1,), (1, 3), (2, 37), (1, 3, 5, 7)], ids=str)
def test_shapes(dtype, steps, neurons, equal_to_reference):
    x = drive(steps, *neurons, dtype=dtype)
    v0 = None if steps % 2 else torch.randn(neurons, dtype=state_dtype(dtype))
    rule = LIFRule("soft", False, False, surrogate.Triangle())
    equal_to_reference(*both(rule), [x, v0, *scalars(dtype, 0.9, 1.0, 0.7)])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["one for all", "one a neuron"])
def test_more_neurons_than_a_block(reset, kind, equal_to_reference):
    """A block has up to 32,768."""
    x = drive(5, 2, 17_001, dtype=torch.float64)
    shape = () if kind == "one for all" else (17_001,)
    parameters = [torch.rand(shape, dtype=torch.float64) * 0.4 + low for low in (0.5, 0.8, 0.6)]
    rule = LIFRule(reset, False, False, surrogate.ATan())
    equal_to_reference(*both(rule), [x, torch.randn(2, 17_001, dtype=torch.float64), *parameters])


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: type(curve).__name__)
@pytest.mark.parametrize(
    ("reset", "inclusive", "detach"), list(itertools.product(RESETS, (False, True), (False, True)))
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rules(curve, reset, inclusive, detach, dtype, equal_to_reference):
    """A drive at random, and one of quarters: there the membrane meets the threshold, and every kink, exactly."""
    rule = LIFRule(reset, inclusive, detach, curve)
    v0 = torch.randn(2, 19, dtype=dtype)
    parameters = [torch.rand(19, dtype=dtype) * 0.3 + low for low in (0.6, 0.8, 0.5)]
    (spikes, _), grads = equal_to_reference(*both(rule), [drive(35, 2, 19, dtype=dtype), v0, *parameters])
    assert 0.1 < spikes.mean() < 0.9
    assert all(bool(g.abs().max() > 0) for g in grads[:4])
    assert bool(grads[4].abs().max() > 0) == (reset == "soft")
    # In float64: gradients of single numbers are sums in which much cancels.
    quarters = torch.randint(-4, 10, (9, 4, 5)).double() / 4
    equal_to_reference(*both(rule), [quarters, quarters[0], *scalars(torch.float64, 1.0, 1.0, 1.0)])


LAYOUTS = [contiguous, channels_last, batch_first, time_innermost, every_second_step, every_second_neuron]
LAYOUTS += [offset, expanded]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reset", RESETS)
def test_layouts(dtype, layout, reset, equal_to_reference):
    x = layout(drive(34, 2, 3, 4, 5, dtype=dtype))
    v0 = torch.randn(2, 4, 5, 3).movedim(-1, 1).to(state_dtype(dtype))
    rule = LIFRule(reset, False, False, surrogate.ATan())
    (spikes, v), _ = equal_to_reference(*both(rule), [x, v0, *scalars(dtype, 0.9, 1.0, 0.7)])
    assert spikes.stride() == torch.empty_like(x).stride()
    assert v.stride() == torch.empty_like(x[0]).stride()


PARAMETERS = {
    "scalar": lambda: torch.rand(()),
    "per channel": lambda: torch.rand(3, 1, 1),
    "per neuron": lambda: torch.rand(3, 4, 5),
    "per neuron, transposed": lambda: torch.rand(5, 4, 3).permute(2, 1, 0),
    "per row": lambda: torch.rand(1, 4, 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [contiguous, channels_last, batch_first])
@pytest.mark.parametrize(("beta", "threshold", "quantum"), [*((k, k, k) for k in PARAMETERS), tuple(PARAMETERS)[:3]])
def test_parameters(dtype, layout, beta, threshold, quantum, equal_to_reference):
    values = [PARAMETERS[kind]().to(state_dtype(dtype)) * 0.6 + 0.3 for kind in (beta, threshold, quantum)]
    x = layout(drive(34, 2, 3, 4, 5, dtype=dtype))
    rule = LIFRule("soft", False, False, surrogate.Sigmoid())
    equal_to_reference(*both(rule), [x, torch.randn(2, 3, 4, 5, dtype=state_dtype(dtype)), *values])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("use", [(True, False), (False, True)], ids=["spikes", "v"])
@pytest.mark.parametrize("steps", [1, 34])
@pytest.mark.parametrize("rest", [True, False])
def test_gradients_from_each_output_alone(reset, use, steps, rest, equal_to_reference):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    v0 = None if rest else torch.randn(2, 3)
    equal_to_reference(*both(rule), [drive(steps, 2, 3), v0, *scalars(torch.float32, 0.8, 1.0, 0.9)], use)


@pytest.mark.parametrize("wanted", range(5))
def test_one_gradient_at_a_time(wanted):
    rule = LIFRule("soft", False, False, surrogate.ATan())
    inputs = [drive(34, 2, 3), torch.randn(2, 3), *(torch.rand(3) + 0.2 for _ in range(3))]
    grads = []
    for op in both(rule):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(inputs)]
        spikes, v = op(*leaves)
        ((spikes * inputs[0]).sum() + v.square().sum()).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(5)]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)


def test_one_tensor_as_threshold_and_quantum():
    rule = LIFRule("soft", False, False, surrogate.ATan())
    x = drive(34, 2, 5, dtype=torch.float64)
    grads = []
    for op in both(rule):
        threshold = torch.full((5,), 0.9, dtype=torch.float64, requires_grad=True)
        spikes, v = op(x, None, torch.tensor(0.8).double(), threshold, threshold)
        grads += torch.autograd.grad((spikes * x).sum() + v.sum(), threshold)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_inference_gives_the_numbers_of_training(reset, dtype):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    inputs = [drive(34, 3, 4, dtype=dtype), torch.randn(3, 4).to(state_dtype(dtype)), *scalars(dtype, 0.8, 1.0, 0.9)]
    expected = lif_reference(*inputs, rule)
    with torch.no_grad():
        spikes, _, v = lif(*inputs, rule)
    assert torch.equal(spikes, expected[0])
    assert torch.equal(v, expected[2])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [(33, 4099), (9, 3, 2731)], ids=str)
@pytest.mark.parametrize("per_neuron", [False, True])
def test_any_number_of_threads_gives_the_same_bits(reset, shape, per_neuron, monkeypatch):
    rule = LIFRule(reset, False, False, surrogate.FastSigmoid())
    x, upstream, v0 = drive(*shape), torch.randn(shape), torch.randn(shape[1:])
    parameters = [torch.rand(shape[-1] if per_neuron else ()) * 0.4 + low for low in (0.5, 0.8, 0.6)]
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(native, "threads_for", lambda elements, threads=threads: threads)
        leaves = [a.clone().requires_grad_() for a in (x, v0, *parameters)]
        spikes, _, v = lif(*leaves, rule)
        results.append(
            (spikes, v, *torch.autograd.grad((spikes * upstream).sum() + v.sum(), leaves, allow_unused=True))
        )
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("reset", RESETS)
def test_what_is_not_finite_reaches_the_last_membrane(value, reset):
    x = drive(34, 2, 9)
    x[3, 1, 4] = value
    rule = LIFRule(reset, False, False, surrogate.ATan())
    _, _, v = lif(x, None, *scalars(torch.float32, 0.9, 1.0, 1.0), rule)
    finite = torch.ones(2, 9, dtype=torch.bool)
    finite[1, 4] = False
    assert torch.equal(torch.isfinite(v), finite)


def test_the_membranes_are_all_that_is_kept_for_the_backward_pass():
    """4 bytes for each neuron and step of float32, and not the drive."""
    x = drive(33, 2, 50).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        lif(x, None, *scalars(torch.float32, 0.9, 1.0, 1.0), LIFRule("soft", False, False, surrogate.ATan()))
    assert [t.nbytes for t in kept if t.ndim] == [4 * x.numel()]
    assert all(t.data_ptr() != x.data_ptr() for t in kept)
