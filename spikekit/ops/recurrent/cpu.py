"""The recurrent LIF by the C kernels of recurrent.c; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import copied, parameters_of
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.recurrent.reference import recurrent_reference
from spikekit.surrogate import ATan


class _Call(lif.Call):
    """`recurrent_call` of recurrent.c."""

    _fields_: ClassVar[Any] = [
        ("batch", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("transposed", "s0", "carry", "next")),
    ]


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key."""
    return lif.support(KERNELS, dtype, surrogate)


def forward(
    x: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes, membranes (None unless `keep`) and last v; arguments as in `recurrent_reference`."""
    drive = x.to(state_dtype(x.dtype)).contiguous()
    _, batch, neurons = drive.shape
    spikes, v = native.empty_like(drive), native.empty_like(drive[0])
    membranes = native.empty_like(drive) if keep else None
    # Named, so that copies live until the kernel has read them.
    v0, s0 = (None if a is None else a.contiguous() for a in (v0, s0))
    transposed = weight.t().contiguous()
    if any(a.ndim for a in parameters):
        parameters = [a.expand(neurons).contiguous() for a in parameters]
    call = lif.new_call(_Call, drive, v0, parameters, reset, inclusive)
    call.neurons, call.batch = neurons, batch
    native.point(call, transposed=transposed, s0=s0, spikes=spikes, v=v, membranes=membranes)
    if KERNELS.library(drive.dtype).recurrent_forward(ctypes.byref(call)):
        raise MemoryError("recurrent_forward: no memory for the drives of one step")
    return spikes.to(x.dtype), membranes, v


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    weight: Tensor,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    learn: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of u at every step, and with `learn` of beta, threshold and quantum for each sample and neuron."""
    steps, g_u, g_s = len(membranes), native.empty_like(membranes), torch.empty_like(membranes[0])
    grad_spikes = grad_spikes.to(membranes.dtype)
    carry = copied(grad_v, g_s)
    following = torch.zeros_like(g_s)
    sums = [torch.zeros_like(g_s) for _ in parameters] if learn else []
    values = parameters_of(membranes, *parameters)
    call = lif.new_call(_Call, membranes, None, values, reset, inclusive)
    call.threads = native.threads_for(g_s.numel())
    lif.set_gradient(call, surrogate=surrogate, numbers=numbers, detach_reset=detach_reset)
    native.point(call, grad_spikes=g_s, carry=carry, next=following)
    native.point(call, **dict(zip(("grad_beta", "grad_threshold", "grad_quantum"), sums, strict=False)))
    back, pointer = KERNELS.library(membranes.dtype).recurrent_back, ctypes.byref(call)
    for t in reversed(range(steps)):
        if t + 1 < steps:
            torch.addmm(grad_spikes[t], g_u[t + 1], weight, out=g_s)
        else:
            g_s.copy_(grad_spikes[t])
        native.point(call, membranes=membranes[t], grad_x=g_u[t])
        back(pointer)
    if learn and v0 is not None:
        sums[0].addcmul_(g_u[0], v0)
    return g_u, sums


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference, forward on exact sums: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, 7, 5, 37, generator=generator, dtype=dtype).unbind(0)
    weight = torch.randint(-4, 5, (37, 37), generator=generator).to(dtype) / 16
    for reset in lif.RESETS:
        parameters = [torch.full((37,), value, dtype=dtype) for value in (0.9, 0.5, 0.7)]
        rule = LIFRule(reset, False, False, ATan())
        leaves = [x.clone(), *(value.clone() for value in parameters)]
        with torch.enable_grad():
            drive, beta, threshold, quantum = (leaf.requires_grad_() for leaf in leaves)
            expected = recurrent_reference(drive, None, None, weight, beta, threshold, quantum, rule)
            loss = (expected[0] * upstream).sum() + expected[2].sum()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        spikes, membranes, v = forward(x, None, None, weight, parameters, reset, False, True)
        if membranes is None or not all(map(torch.equal, (spikes, membranes, v), expected)):
            raise ArithmeticError(f"other numbers than the reference, reset {reset}")
        end, curve = torch.ones_like(v), ATan().encode()
        g_x, sums = backward(upstream, end, membranes, None, weight, parameters, reset, False, False, *curve, True)
        found = [g_x, *(total.sum(0) for total in sums)]
        for name, value, wanted in zip(("x", "beta", "threshold", "quantum"), found, gradients, strict=True):
            if wanted is not None and not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("recurrent.c"), _self_test)
