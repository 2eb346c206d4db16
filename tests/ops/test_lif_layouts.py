"""The LIF on every shape, memory layout, dtype and kind of parameter: the sequence path against the reference."""

from __future__ import annotations

import pytest
import torch

from spikekit import surrogate
from spikekit.ops.lif import LIFRule, lif, lif_reference, state_dtype
from tests.ops.layouts import channels_last, contiguous, every_second_neuron, expanded, time_innermost

SHAPES = [(1, 1, 1), (3, 1), (5, 2, 7), (4, 3, 2, 5, 3), (1, 2, 3, 4, 4), (9, 1, 3, 1, 1), (3, 2, 3, 5)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


LAYOUTS = [contiguous, channels_last, time_innermost, every_second_neuron, expanded]


def both(rule):
    return (lambda *i: lif(*i, rule, keep_membranes=True)), (lambda *i: lif_reference(*i, rule))


def scalars(dtype, *values):
    return [torch.tensor(value, dtype=state_dtype(dtype)) for value in values]


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("detach", [False, True])
def test_layouts_and_dtypes(dtype, layout, reset, detach, equal_to_reference):
    rule = LIFRule(reset, False, detach, surrogate.ATan())
    x = layout((torch.randn(4, 2, 3, 4, 3) + 0.4).to(dtype))
    v0 = torch.randn(2, 4, 3, 3).movedim(-1, 1).to(state_dtype(dtype))
    equal_to_reference(*both(rule), [x, v0, *scalars(dtype, 0.9, 1.0, 0.7)])


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_shapes(dtype, shape, rest, equal_to_reference):
    rule = LIFRule("soft", False, False, surrogate.Triangle())
    x = (torch.randn(shape) + 0.4).to(dtype)
    v0 = None if rest else torch.randn(shape[1:], dtype=state_dtype(dtype))
    outputs, _ = equal_to_reference(*both(rule), [x, v0, *scalars(dtype, 0.9, 1.0, 1.0)])
    assert [y.dtype for y in outputs] == [dtype, state_dtype(dtype), state_dtype(dtype)]
    assert [tuple(y.shape) for y in outputs] == [shape, shape, shape[1:]]


PARAMETERS = {
    "scalar": lambda: torch.rand(()),
    "per channel": lambda: torch.rand(3, 1, 1),
    "per neuron": lambda: torch.rand(3, 4, 5),
    "per neuron, transposed": lambda: torch.rand(5, 4, 3).permute(2, 1, 0),
    "per row": lambda: torch.rand(1, 4, 1),
}


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("kind", PARAMETERS)
def test_parameters(dtype, reset, layout, kind, equal_to_reference):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    beta, threshold, quantum = (PARAMETERS[kind]().to(dtype) * scale + 0.1 for scale in (0.8, 1.0, 1.0))
    x = layout(torch.randn(4, 2, 3, 4, 5, dtype=dtype) + 0.4)
    v0 = torch.randn(2, 3, 4, 5, dtype=dtype)
    equal_to_reference(*both(rule), [x, v0, beta, threshold, quantum])


@pytest.mark.usefixtures("poison")
def test_parameters_of_different_kinds(equal_to_reference):
    rule = LIFRule("soft", True, False, surrogate.SechBump())
    x = torch.randn(5, 2, 3, 4, 5, dtype=torch.float64) + 0.4
    beta, threshold, quantum = torch.rand(3, 1, 1), torch.rand(3, 4, 5) + 0.2, torch.tensor(0.7)
    equal_to_reference(*both(rule), [x, None, beta.double(), threshold.double(), quantum.double()])


@pytest.mark.parametrize("wanted", range(5))
def test_one_gradient_at_a_time(wanted, poison):
    """A gradient that nobody asked for must not be needed by one that somebody did."""
    rule = LIFRule("soft", False, False, surrogate.ATan())
    inputs = [torch.randn(4, 2, 3) + 0.5, torch.randn(2, 3), *(torch.rand(3) + 0.2 for _ in range(3))]
    grads = []
    for op in (lif, lif_reference):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(inputs)]
        spikes, _, v = op(*leaves, rule)
        ((spikes * inputs[0]).sum() + v.square().sum()).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(5)]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)
