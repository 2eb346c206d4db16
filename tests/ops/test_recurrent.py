"""The recurrent LIF: both fast paths against the reference, finite differences, and the operator's promises.

Sums of recurrent weights have no order of their own. On a grid of weights they are exact, and spikes equal bit for bit.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikekit import surrogate
from spikekit.ops.lif import LIFRule, state_dtype
from spikekit.ops.recurrent import recurrent, recurrent_reference
from tests.ops.layouts import batch_innermost, expanded

CURVE = surrogate.ATan().encode()
CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))


def on_a_grid(n, dtype=torch.float32):
    return torch.randint(-6, 7, (n, n)).to(dtype) / 8


def both(rule):
    return (
        (lambda *i: recurrent(*i, rule, keep_membranes=True)),
        (lambda *i: recurrent_reference(*i, rule)),
    )


def inputs(shape, dtype=torch.float32, rest=False, parameter=()):
    state = state_dtype(dtype)
    v0 = None if rest else torch.randn(shape[1:], dtype=state)
    s0 = None if rest else (torch.rand(shape[1:]) < 0.5).to(state)
    parameters = [torch.rand(parameter, dtype=state) * 0.5 + 0.4 for _ in range(3)]
    return [(torch.randn(shape) + 0.4).to(dtype), v0, s0, on_a_grid(shape[2], state), *parameters]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
@pytest.mark.parametrize("parameter", [(), (5,)], ids=["scalar", "per neuron"])
def test_rules(reset, inclusive, detach, parameter, equal_to_reference):
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    tensors = inputs((6, 4, 5), torch.float64, parameter=parameter)
    equal_to_reference(*both(rule), tensors, (True, False, True))
    (spikes, _, _), grads = equal_to_reference(*both(rule), tensors)
    assert 0.05 < spikes.mean() < 0.95
    assert all(g.abs().max() > 0 for g in grads[:6])


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.clone, batch_innermost, expanded])
@pytest.mark.parametrize("rest", [True, False])
def test_layouts_and_dtypes(dtype, layout, rest, equal_to_reference):
    rule = LIFRule("soft", False, False, surrogate.ATan())
    x, v0, s0, weight, *parameters = inputs((5, 3, 6), dtype, rest, (6,))
    states = [None if a is None else a.t().contiguous().t() for a in (v0, s0)]
    outputs, _ = equal_to_reference(*both(rule), [layout(x), *states, weight.t().contiguous().t(), *parameters])
    assert [y.dtype for y in outputs] == [dtype, state_dtype(dtype), state_dtype(dtype)]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (4, 1, 33), (3, 70, 9)], ids=str)
def test_shapes(shape, equal_to_reference):
    equal_to_reference(*both(LIFRule("hard", False, False, surrogate.ATan())), inputs(shape))


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("use", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("rest", [True, False])
def test_gradients_from_each_output_alone(use, rest, equal_to_reference):
    equal_to_reference(*both(LIFRule("soft", False, False, surrogate.ATan())), inputs((4, 2, 5), rest=rest), use)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("wanted", range(7))
def test_one_gradient_at_a_time(wanted, poison):
    rule = LIFRule("soft", False, False, surrogate.ATan())
    tensors, grads = inputs((4, 2, 5), torch.float64), []
    for op in (recurrent, recurrent_reference):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(tensors)]
        spikes, _, v = op(*leaves, rule)
        ((spikes * tensors[0]).sum() + v.square().sum()).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(7)]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_inference_gives_the_numbers_of_training(reset):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    tensors = inputs((5, 3, 8))
    expected = recurrent_reference(*tensors, rule)
    spikes, membranes, v = recurrent(*tensors, rule)
    assert membranes is None
    assert torch.equal(spikes, expected[0])
    assert torch.equal(v, expected[2])


def test_weights_off_the_grid_differ_by_rounding_alone():
    """In double, where no membrane of a million comes that close to the threshold."""
    x, _, _, _, *parameters = inputs((40, 16, 64), torch.float64)
    weight = torch.randn(64, 64, dtype=torch.float64) / 8
    rule = LIFRule("soft", False, False, surrogate.ATan())
    fast, slow = (op(x, None, None, weight, *parameters, rule) for op in (recurrent, recurrent_reference))
    assert torch.equal(fast[0], slow[0])
    torch.testing.assert_close(fast[2], slow[2], rtol=1e-12, atol=1e-12)


def test_tiles_and_groups_do_not_show(poison):
    """More neurons than a tile of columns holds, more samples than a group, each sample as if it were alone."""
    x, v0, s0, weight, *parameters = inputs((3, 70, 1100))
    rule = LIFRule("soft", False, False, surrogate.ATan())
    spikes, _, v = recurrent(x, v0, s0, weight, *parameters, rule)
    expected, _, last = recurrent_reference(x, v0, s0, weight, *parameters, rule)
    assert torch.equal(spikes, expected)
    assert torch.equal(v, last)


@pytest.mark.parametrize("batch", [1, 2, 7, 130])
def test_threads_do_not_change_a_bit(batch):
    x, v0, s0, _, *parameters = inputs((60, batch, 300))
    weight = torch.randn(300, 300) / 17
    rule = LIFRule("soft", False, False, surrogate.ATan())
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(recurrent(x, v0, s0, weight, *parameters, rule, keep_membranes=True))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_state_that_is_no_spike_counts_with_its_value(equal_to_reference):
    x, v0, s0, weight, *parameters = inputs((3, 2, 6))
    rule = LIFRule("soft", False, False, surrogate.ATan())
    equal_to_reference(*both(rule), [x, v0, s0 * 0.5 - 0.25, weight, *parameters])


@pytest.mark.parametrize("op", [recurrent_reference, recurrent], ids=["reference", "sequence"])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("parameter", [(), (3,)], ids=["scalar", "per neuron"])
def test_gradcheck_on_a_smooth_spike(op, reset, parameter, poison, smooth_spike):
    """The step replaced by its surrogate's antiderivative: see test_lif_gradcheck."""
    curve = smooth_spike(surrogate.ATan(1.0))
    rule = LIFRule(reset, False, False, curve)
    tensors = [a.requires_grad_() for a in inputs((4, 2, 3), torch.float64, parameter=parameter)]
    assert torch.autograd.gradcheck(lambda *i: op(*i, rule), tensors)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("keep", "rest"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(compiled, keep, rest, dtype):
    tensors = inputs((3, 2, 4), dtype, rest, (4,))
    if keep:
        tensors = [None if a is None else a.requires_grad_() for a in tensors]
    torch.library.opcheck(
        torch.ops.spikekit.recurrent.default, (*tensors, "soft", False, False, *CURVE, compiled, keep)
    )


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("needs", [[True] * 7, [True, *[False] * 6]], ids=["all", "x"])
def test_opcheck_backward(compiled, needs):
    x, *rest = inputs((3, 2, 4), parameter=(4,))
    grad_v = torch.ones(()).expand(x.shape[1:])
    torch.library.opcheck(
        torch.ops.spikekit.recurrent_backward.default,
        (
            torch.randn_like(x),
            None if compiled else torch.randn_like(x),
            grad_v,
            x,
            *rest,
            "soft",
            False,
            False,
            *CURVE,
            compiled,
            needs,
        ),
    )


def test_fake_kernel_knows_the_shapes():
    with FakeTensorMode():
        x, weight = torch.empty(5, 2, 3, dtype=torch.float16), torch.empty(3, 3)
        scalars = [torch.empty(()) for _ in range(3)]
        outputs = torch.ops.spikekit.recurrent(
            x, None, None, weight, *scalars, "soft", False, False, *CURVE, True, True
        )
    expected = [((5, 2, 3), torch.float16), ((5, 2, 3), torch.float32), ((2, 3), torch.float32)]
    assert [(tuple(y.shape), y.dtype) for y in outputs] == expected


def test_a_second_derivative_is_refused_not_wrong():
    tensors = inputs((3, 2, 4), rest=True)
    x = tensors[0].requires_grad_()
    spikes, _, _ = recurrent(*tensors, LIFRule("soft", False, False, surrogate.ATan()))
    (grad,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        grad.sum().backward()
