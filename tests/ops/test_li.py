"""The leaky integrator: the sequence path against the reference, finite differences, and the operator's promises."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikekit.ops.li import li, li_reference
from spikekit.ops.lif import state_dtype


def channels_last(x):
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


def time_innermost(x):
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def expanded(x):
    return x[:1].expand_as(x)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.clone, channels_last, time_innermost, expanded])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_equal_to_reference(dtype, layout, shape, rest, equal_to_reference):
    x = layout(torch.randn(4, 2, 3, 4, 5).to(dtype))
    v0 = None if rest else torch.randn(2, 4, 5, 3, dtype=state_dtype(dtype)).movedim(-1, 1)
    (membranes,), _ = equal_to_reference(li, li_reference, [x, v0, torch.rand(shape, dtype=state_dtype(dtype))])
    assert membranes.dtype == state_dtype(dtype)


@pytest.mark.parametrize("op", [li_reference, li])
@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_gradcheck(op, shape, poison):
    inputs = [torch.randn(4, 2, 3), torch.randn(2, 3), torch.rand(shape)]
    assert torch.autograd.gradcheck(op, [a.double().requires_grad_() for a in inputs])


@pytest.mark.parametrize("rest", [True, False])
def test_opcheck(rest):
    x = channels_last(torch.randn(3, 2, 3, 4, 5)).requires_grad_()
    v0 = None if rest else torch.randn(2, 3, 4, 5, requires_grad=True)
    beta = torch.rand(5, 4, 3).permute(2, 1, 0).requires_grad_()
    torch.library.opcheck(torch.ops.spikekit.li.default, (x, v0, beta))


@pytest.mark.parametrize("needs", [[True] * 3, [True, False, False]], ids=["all", "x"])
def test_opcheck_backward(needs):
    out = channels_last(torch.randn(3, 2, 3, 4, 5))
    beta = torch.rand(5, 4, 3).permute(2, 1, 0)
    grad = torch.ones(()).expand_as(out)
    torch.library.opcheck(
        torch.ops.spikekit.li_backward.default,
        (grad, out, torch.randn(2, 3, 4, 5), beta, torch.float32, needs),
    )


def test_fake_kernel_knows_the_shape():
    with FakeTensorMode():
        y = torch.ops.spikekit.li(torch.empty(5, 2, 3, dtype=torch.float16), None, torch.empty(()))
    assert (tuple(y.shape), y.dtype) == ((5, 2, 3), torch.float32)
