"""The LI's Triton kernels against the reference: on the GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from spikekit.ops.li import gpu, li, li_reference
from spikekit.ops.lif import state_dtype
from tests.ops.layouts import channels_last, time_innermost


@pytest.fixture
def check(triton_device, equal_to_reference):
    def fast(*tensors):
        membranes = li(*tensors)
        assert type(membranes.grad_fn).__name__ in ("Backward_li_fusedBackward", "NoneType")
        return membranes

    def checked(*inputs):
        return equal_to_reference(fast, li_reference, [None if a is None else a.to(triton_device) for a in inputs])

    return checked


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("steps", [1, gpu.CHUNK, gpu.CHUNK + 1])
@pytest.mark.parametrize("rest", [True, False])
def test_steps_and_dtypes(dtype, steps, rest, check):
    v0 = None if rest else torch.randn(2, 35, dtype=state_dtype(dtype))
    (membranes,), _ = check(torch.randn(steps, 2, 35).to(dtype), v0, torch.tensor(0.9, dtype=state_dtype(dtype)))
    assert membranes.dtype == state_dtype(dtype)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("layout", [torch.clone, channels_last, time_innermost])
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 4, 5), (1, 4, 1), (3, 1, 5)], ids=str)
def test_layouts_and_parameters(layout, shape, check):
    check(layout(torch.randn(4, 2, 3, 4, 5)), torch.randn(2, 3, 4, 5), torch.rand(shape))


def test_without_a_gradient_of_beta(triton_device):
    x, beta = torch.randn(9, 2, 3, device=triton_device), torch.tensor(0.9)
    grads = []
    for op in (li, li_reference):
        leaf = x.clone().requires_grad_()
        grads += torch.autograd.grad((op(leaf, None, beta) * x).sum(), leaf)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)
