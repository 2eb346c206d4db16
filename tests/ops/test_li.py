"""The leaky integrator: both fast paths against the reference, finite differences, and the operator's promises."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikekit.ops.li import li, li_reference
from spikekit.ops.lif import state_dtype
from tests.ops.layouts import channels_last, expanded, time_innermost


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.clone, channels_last, time_innermost, expanded])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_equal_to_reference(dtype, layout, shape, rest, equal_to_reference):
    x = layout(torch.randn(4, 2, 3, 4, 5).to(dtype))
    v0 = None if rest else torch.randn(2, 4, 5, 3, dtype=state_dtype(dtype)).movedim(-1, 1)
    (membranes,), _ = equal_to_reference(li, li_reference, [x, v0, torch.rand(shape, dtype=state_dtype(dtype))])
    assert membranes.dtype == state_dtype(dtype)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("op", [li_reference, li])
@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_gradcheck(op, shape, poison):
    inputs = [torch.randn(4, 2, 3), torch.randn(2, 3), torch.rand(shape)]
    assert torch.autograd.gradcheck(op, [a.double().requires_grad_() for a in inputs])


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("rest", [True, False])
def test_only_the_gradient_of_beta_keeps_membranes(learn, rest):
    x = torch.randn(4, 2, 3, requires_grad=True)
    v0 = None if rest else torch.randn(2, 3, requires_grad=True)
    y = li(x, v0, torch.tensor(0.7, requires_grad=learn))
    assert [a is not None for a in y.grad_fn.saved_tensors] == [learn, not rest, True]
    y.sum().backward()
    expected = [sum(0.7**k for k in range(4 - t)) for t in range(4)]
    torch.testing.assert_close(x.grad[:, 0, 0], torch.tensor(expected))


def test_threads_and_blocks_do_not_change_a_bit():
    """More neurons than a block of the kernel, and enough of them for a second thread."""
    x, v0, beta = torch.randn(9, 3, 5001), torch.randn(3, 5001), torch.rand(5001, requires_grad=True)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            leaf = x.clone().requires_grad_()
            y = li(leaf, v0, beta)
            results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, beta])))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert torch.equal(results[0][0], li_reference(x, v0, beta))


@pytest.mark.parametrize("name", ["li", "li_fused"])
@pytest.mark.parametrize("rest", [True, False])
def test_opcheck(name, rest):
    x = channels_last(torch.randn(3, 2, 3, 4, 5)).requires_grad_()
    v0 = None if rest else torch.randn(2, 3, 4, 5, requires_grad=True)
    beta = torch.rand(5, 4, 3).permute(2, 1, 0).requires_grad_()
    torch.library.opcheck(getattr(torch.ops.spikekit, name).default, (x, v0, beta))


@pytest.mark.parametrize("name", ["li_backward", "li_fused_backward"])
@pytest.mark.parametrize("needs", [[True] * 3, [True, False, False]], ids=["all", "x"])
def test_opcheck_backward(name, needs):
    out = channels_last(torch.randn(3, 2, 3, 4, 5))
    beta = torch.rand(5, 4, 3).permute(2, 1, 0)
    grad = torch.ones(()).expand_as(out)
    torch.library.opcheck(
        getattr(torch.ops.spikekit, name).default,
        (grad, out if needs[2] else None, torch.randn(2, 3, 4, 5), beta, torch.float32, needs),
    )


@pytest.mark.parametrize("name", ["li", "li_fused"])
def test_fake_kernel_knows_the_shape(name):
    with FakeTensorMode():
        y = getattr(torch.ops.spikekit, name)(torch.empty(5, 2, 3, dtype=torch.float16), None, torch.empty(()))
    assert (tuple(y.shape), y.dtype) == ((5, 2, 3), torch.float32)
