"""The leaky integrator by the C kernels of li.c, on float32 and float64; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import parameters_of
from spikekit.ops.li.reference import li_reference
from spikekit.ops.lif.reference import state_dtype


class _Call(ctypes.Structure):
    """`li_call` of li.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "neurons")),
        *((name, ctypes.c_int32) for name in ("threads", "each")),
        *((name, ctypes.c_void_p) for name in ("x", "v0", "beta", "membranes", "grad")),
        *((name, ctypes.c_void_p) for name in ("grad_x", "grad_v0", "grad_beta")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether these kernels serve a drive of `dtype`."""
    return KERNELS.trusted(state_dtype(dtype))


def forward(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes of the sequence; the arguments as `spikekit.ops.li.fused` lays them out."""
    drive = x.to(state_dtype(x.dtype))
    out = native.empty_like(drive)
    call = _call(drive, *parameters_of(drive, beta))
    native.point(call, x=drive, v0=v0, membranes=out)
    KERNELS.library(drive.dtype).li_forward(ctypes.byref(call))
    return out


def backward(
    grad: Tensor, membranes: Tensor | None, v0: Tensor | None, beta: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x in `dtype`, of v0, and where there are `membranes` of beta for every neuron, summed over time."""
    g_x, g_v0 = native.empty_like(grad), native.empty_like(grad[0])
    g_beta = None if membranes is None else native.empty_like(g_v0)
    call = _call(grad, *parameters_of(grad, beta))
    native.point(call, v0=v0, membranes=membranes, grad=grad, grad_x=g_x, grad_v0=g_v0, grad_beta=g_beta)
    KERNELS.library(grad.dtype).li_backward(ctypes.byref(call))
    return g_x.to(dtype), g_v0, g_beta


def _call(sequence: Tensor, beta: Tensor) -> _Call:
    steps, neurons = len(sequence), sequence[0].numel()
    call = _Call(steps=steps, neurons=neurons, threads=native.threads_for(steps * neurons), each=beta.ndim > 0)
    native.point(call, beta=beta)
    return call


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, 7, 37, generator=generator, dtype=dtype).unbind(0)
    leaves = [x.clone(), upstream[0].clone(), torch.full((37,), 0.9, dtype=dtype)]
    with torch.enable_grad():
        expected = li_reference(*(leaf.requires_grad_() for leaf in leaves))
        gradients = torch.autograd.grad((expected * upstream).sum(), leaves)
    v0, beta = (leaf.detach() for leaf in leaves[1:])
    membranes = forward(x, v0, beta)
    if not torch.equal(membranes, expected):
        raise ArithmeticError("other membranes than the reference")
    found = backward(upstream, membranes, v0, beta, dtype)
    for name, value, wanted in zip(("x", "v0", "beta"), found, gradients, strict=True):
        if value is None or not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
            raise ArithmeticError(f"other gradient of {name} than the reference")


KERNELS = native.Kernels(Path(__file__).with_name("li.c"), _self_test)
