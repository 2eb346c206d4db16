"""The LIF operation by the C kernels of lif.c, on float32 and float64; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, arranged_as_new, dense, parameters_of
from spikekit.ops.lif.reference import LIFRule, lif_reference, state_dtype
from spikekit.surrogate import ATan

RESETS = ("soft", "hard", "none")
# In the order of the enumeration in native/surrogates.h.
_SURROGATES = (
    "ATan",
    "Sigmoid",
    "FastSigmoid",
    "Triangle",
    "Rectangle",
    "StraightThrough",
    "SechBump",
    "Exponential",
)
SURROGATE_NUMBERS = {f"spikekit.surrogate.{name}": number for number, name in enumerate(_SURROGATES)}
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Call(ctypes.Structure):
    """`lif_call` of lif.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "neurons")),
        *((name, ctypes.c_int32) for name in ("threads", "each", "reset", "inclusive", "detach", "surrogate")),
        ("numbers", ctypes.c_double * 2),
        *((name, ctypes.c_void_p) for name in ("x", "v0", "beta", "threshold", "quantum")),
        *((name, ctypes.c_void_p) for name in ("spikes", "v", "membranes", "grad_spikes", "grad_v", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("grad_v0", "grad_beta", "grad_threshold", "grad_quantum")),
    ]


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key."""
    return dtype in FLOATS and surrogate in SURROGATE_NUMBERS and KERNELS.trusted(state_dtype(dtype))


def forward(
    x: Tensor, v0: Tensor | None, parameters: Sequence[Tensor], reset: str, inclusive: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes (empty unless `keep`) and last v, with the strides of `torch.empty_like`.

    parameters: beta, threshold and quantum.
    """
    drive = dense(x).to(state_dtype(x.dtype))
    step = drive[0]
    start = None if v0 is None else arranged(v0, step)
    values = parameters_of(drive, *parameters)
    spikes, v = native.empty_like(drive), native.empty_like(step)
    membranes = native.empty_like(drive) if keep else v.new_empty(0)
    call = new_call(Call, drive, start, values, reset, inclusive)
    call.spikes, call.v = spikes.data_ptr(), v.data_ptr()
    if keep:
        call.membranes = membranes.data_ptr()
    KERNELS.library(drive.dtype).lif_forward(ctypes.byref(call))
    if drive is x:
        return spikes, membranes, v
    kept = arranged_as_new(membranes, x) if keep else membranes
    return arranged_as_new(spikes.to(x.dtype), x), kept, arranged_as_new(v, x[0])


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    learn: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x and v0, and with `learn` of beta, threshold and quantum for every neuron, summed over time.

    With the strides of `torch.empty_like` of the membranes; that of x in the dtype of `grad_spikes`.
    """
    u = dense(membranes)
    step = u[0]
    upstream = arranged(grad_spikes, u).to(u.dtype)
    end, start = (None if a is None else arranged(a, step) for a in (grad_v, v0))
    values = parameters_of(u, *parameters)
    g_x, g_v0 = native.empty_like(u), native.empty_like(step)
    sums = [native.empty_like(g_v0) for _ in range(3)] if learn else []
    call = new_call(Call, u, start, values, reset, inclusive)
    set_gradient(call, detach_reset, surrogate, numbers)
    native.point(call, membranes=u, grad_spikes=upstream, grad_v=end, grad_x=g_x, grad_v0=g_v0)
    if learn:
        native.point(call, **dict(zip(("grad_beta", "grad_threshold", "grad_quantum"), sums, strict=True)))
    KERNELS.library(u.dtype).lif_backward(ctypes.byref(call))
    if u is membranes and grad_spikes.dtype == u.dtype:
        return g_x, g_v0, sums
    return arranged_as_new(g_x.to(grad_spikes.dtype), membranes), arranged_as_new(g_v0, membranes[0]), sums


AnyCall = TypeVar("AnyCall", bound=Call)


def new_call(
    kind: type[AnyCall],
    sequence: Tensor,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
) -> AnyCall:
    """What forward and backward pass have in common; `kind` may add fields of its own behind those of `Call`.

    sequence: the drive, or what lies in memory as it does.
    """
    steps, elements = len(sequence), sequence.numel()
    beta, threshold, quantum = parameters
    # In one go: field by field takes three times as long, at every call of every layer.
    return kind(
        steps=steps,
        neurons=elements // steps,
        threads=native.threads_for(elements),
        each=beta.ndim > 0,
        reset=RESETS.index(reset),
        inclusive=inclusive,
        x=sequence.data_ptr(),
        v0=native.address(v0),
        beta=beta.data_ptr(),
        threshold=threshold.data_ptr(),
        quantum=quantum.data_ptr(),
    )


def set_gradient(call: Call, detach_reset: bool, surrogate: str, numbers: Sequence[float]) -> None:
    """What the backward pass alone needs to know."""
    call.detach, call.surrogate = detach_reset, SURROGATE_NUMBERS[surrogate]
    call.numbers = (*numbers, 0.0, 0.0)[:2]


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 37, generator=generator, dtype=dtype)
    upstream = torch.randn(7, 37, generator=generator, dtype=dtype)
    for reset in RESETS:
        rule = LIFRule(reset, False, False, ATan())
        leaves = [x.clone(), *(torch.full((37,), value, dtype=dtype) for value in (0.9, 0.5, 0.7))]
        for leaf in leaves:
            leaf.requires_grad_()
        with torch.enable_grad():
            beta, threshold, quantum = leaves[1:]
            expected, _, last = lif_reference(leaves[0], None, beta, threshold, quantum, rule)
            gradients = torch.autograd.grad((expected * upstream).sum() + last.sum(), leaves, allow_unused=True)
        values = [leaf.detach() for leaf in leaves[1:]]
        spikes, membranes, v = forward(x, None, values, reset, False, True)
        if not (torch.equal(spikes, expected) and torch.equal(v, last)):
            raise ArithmeticError(f"other spikes than the reference, reset {reset}")
        key, numbers = ATan().encode()
        end = torch.ones_like(v)
        found = backward(upstream, end, membranes, None, values, reset, False, False, key, numbers, True)
        names = ("x", "beta", "threshold", "quantum")
        for name, value, wanted in zip(names, (found[0], *found[2]), gradients, strict=True):
            if wanted is not None and not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("lif.c"), _self_test)
