"""The leaky integrator by the Triton kernels of triton_kernels.py: state in float32 or float64, data in any float."""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.gpu import Kernels, arguments, block, describe, on_device_of
from spikekit.ops.li.reference import li_reference
from spikekit.ops.lif.reference import state_dtype

# Steps whose loads are in flight together.
CHUNK = 8

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def supports(dtype: torch.dtype) -> bool:
    """Whether these kernels serve a drive of `dtype`."""
    return dtype in _FLOATS and KERNELS.trusted(state_dtype(dtype))


def forward(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes of the sequence; the arguments as `spikekit.ops.li.fused` lays them out."""
    out = torch.empty_like(x, dtype=state_dtype(x.dtype))
    neurons = x[0].numel()
    decay = describe(beta, out[0])
    size, warps = block(neurons)
    if neurons:
        with on_device_of(x):
            KERNELS.module.forward_kernel[(-(-neurons // size),)](
                x,
                v0,
                *arguments([decay]),
                out,
                len(x),
                neurons,
                decay.kind,
                CHUNK=CHUNK,
                BLOCK=size,
                num_warps=warps,
                enable_fp_fusion=False,
            )
    return out


def backward(
    grad: Tensor, membranes: Tensor | None, v0: Tensor | None, beta: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x in `dtype`, of v0, and where there are `membranes` of beta for every neuron, summed over time."""
    g_x, g_v0 = torch.empty_like(grad, dtype=dtype), torch.empty_like(grad[0])
    g_beta = None if membranes is None else torch.empty_like(g_v0)
    neurons = grad[0].numel()
    decay = describe(beta, g_v0)
    size, warps = block(neurons)
    if neurons:
        with on_device_of(grad):
            KERNELS.module.backward_kernel[(-(-neurons // size),)](
                grad,
                membranes,
                v0,
                *arguments([decay]),
                g_x,
                g_v0,
                g_beta,
                len(grad),
                neurons,
                decay.kind,
                CHUNK=CHUNK,
                BLOCK=size,
                num_warps=warps,
                enable_fp_fusion=False,
            )
    return g_x, g_v0, g_beta


def _self_test(device: str, dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, CHUNK + 3, 67, generator=generator, dtype=dtype).to(device)
    v0, beta = upstream[0].clone(), torch.full((), 0.9, dtype=dtype, device=device)
    leaves = [leaf.clone().requires_grad_() for leaf in (x, v0, beta)]
    with torch.enable_grad():
        expected = li_reference(leaves[0], leaves[1], leaves[2])
        gradients = torch.autograd.grad((expected * upstream).sum(), leaves)
    membranes = forward(x, v0, beta)
    if not torch.equal(membranes, expected):
        raise ArithmeticError("other membranes than the reference")
    g_x, g_v0, total = backward(upstream, membranes, v0, beta, dtype)
    found = (g_x, g_v0, g_x.new_zeros(()) if total is None else total.sum())
    for name, value, wanted in zip(("x", "v0", "beta"), found, gradients, strict=True):
        if not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
            raise ArithmeticError(f"other gradient of {name} than the reference")


KERNELS = Kernels("spikekit.ops.li.triton_kernels", _self_test)
