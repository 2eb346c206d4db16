"""The LIF with an adaptive threshold by the C kernels of alif.c; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.alif.reference import alif_reference
from spikekit.ops.layout import arranged, arranged_as_new, dense, parameters_of
from spikekit.ops.lif.cpu import FLOATS, RESETS, SURROGATE_NUMBERS
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.surrogate import ATan

_PARAMETERS = ("beta", "threshold", "quantum", "rho", "rise")


class Call(ctypes.Structure):
    """`alif_call` of alif.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "neurons")),
        *((name, ctypes.c_int32) for name in ("threads", "each", "reset", "inclusive", "detach", "surrogate")),
        ("numbers", ctypes.c_double * 2),
        *((name, ctypes.c_void_p) for name in ("x", "v0", "a0", *_PARAMETERS)),
        *((name, ctypes.c_void_p) for name in ("spikes", "v", "a", "membranes", "adaptations", "grad_spikes")),
        *((name, ctypes.c_void_p) for name in ("grad_x", "grad_v", "grad_a")),
        *((f"grad_{name}", ctypes.c_void_p) for name in _PARAMETERS),
    ]


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key."""
    return dtype in FLOATS and surrogate in SURROGATE_NUMBERS and KERNELS.trusted(state_dtype(dtype))


def forward(
    x: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Arguments and results as in `sequence.forward`."""
    drive = dense(x).to(state_dtype(x.dtype))
    starts = [None if start is None else arranged(start, drive[0]) for start in (v0, a0)]
    values = parameters_of(drive, *parameters)
    spikes, v, a = native.empty_like(drive), native.empty_like(drive[0]), native.empty_like(drive[0])
    membranes, adaptations = (native.empty_like(drive) if keep else None for _ in range(2))
    call = _new_call(drive, starts, values, reset, inclusive)
    native.point(call, x=drive, spikes=spikes, v=v, a=a, membranes=membranes, adaptations=adaptations)
    KERNELS.library(drive.dtype).alif_forward(ctypes.byref(call))
    traces = [None if kept is None else arranged_as_new(kept, x) for kept in (membranes, adaptations)]
    return arranged_as_new(spikes.to(x.dtype), x), *traces, arranged_as_new(v, x[0]), arranged_as_new(a, x[0])  # type: ignore[return-value]


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor | None,
    grad_a: Tensor | None,
    membranes: Tensor,
    adaptations: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients of x, v0 and a0, and with `learn` of the parameters for every neuron, summed over time."""
    u = dense(membranes)
    upstream, kept = arranged(grad_spikes, u).to(u.dtype), arranged(adaptations, u)
    starts = [None if start is None else arranged(start, u[0]) for start in (v0, a0)]
    values = parameters_of(u, *parameters)
    g_x = native.empty_like(u)
    g_v, g_a = (
        torch.zeros_like(u[0]) if end is None else torch.empty_like(u[0]).copy_(end) for end in (grad_v, grad_a)
    )
    sums = [torch.zeros_like(u[0]) for _ in _PARAMETERS] if learn else []
    call = _new_call(u, starts, values, reset, inclusive)
    call.detach, call.surrogate = detach_reset, SURROGATE_NUMBERS[surrogate]
    call.numbers = (*numbers, 0.0, 0.0)[:2]
    native.point(call, membranes=u, adaptations=kept, grad_spikes=upstream, grad_x=g_x, grad_v=g_v, grad_a=g_a)
    native.point(call, **{f"grad_{name}": total for name, total in zip(_PARAMETERS, sums, strict=False)})
    KERNELS.library(u.dtype).alif_backward(ctypes.byref(call))
    states = [arranged_as_new(g, membranes[0]) for g in (g_v, g_a)]
    return arranged_as_new(g_x.to(grad_spikes.dtype), membranes), *states, sums  # type: ignore[return-value]


def _new_call(
    sequence: Tensor, starts: Sequence[Tensor | None], values: Sequence[Tensor], reset: str, inclusive: bool
) -> Call:
    steps, elements = len(sequence), sequence.numel()
    call = Call(
        steps=steps,
        neurons=elements // steps,
        threads=native.threads_for(elements),
        each=values[0].ndim > 0,
        reset=RESETS.index(reset),
        inclusive=inclusive,
    )
    native.point(call, v0=starts[0], a0=starts[1], **dict(zip(_PARAMETERS, values, strict=True)))
    return call


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, 7, 37, generator=generator, dtype=dtype).unbind(0)
    for reset in RESETS:
        values = [torch.full((37,), value, dtype=dtype) for value in (0.9, 0.5, 0.7, 0.8, 0.3)]
        leaves = [leaf.clone().requires_grad_() for leaf in (x, *values)]
        with torch.enable_grad():
            rule = LIFRule(reset, False, False, ATan())
            drive, beta, threshold, quantum, rho, rise = leaves
            expected = alif_reference(drive, None, None, beta, threshold, quantum, rho, rise, rule)
            loss = (expected[0] * upstream).sum() + expected[3].sum() + expected[4].sum()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        found = forward(x, None, None, values, reset, False, True)
        if not all(one is not None and torch.equal(one, other) for one, other in zip(found, expected, strict=True)):
            raise ArithmeticError(f"other numbers than the reference, reset {reset}")
        _, membranes, adaptations, v, _ = expected
        traces, end = (membranes.detach(), adaptations.detach()), torch.ones_like(v)
        curve = ATan().encode()
        g_x, _, _, sums = backward(upstream, end, end, *traces, None, None, values, reset, False, False, *curve, True)
        for name, value, wanted in zip(("x", *_PARAMETERS), (g_x, *sums), gradients, strict=True):
            if wanted is not None and not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("alif.c"), _self_test)
