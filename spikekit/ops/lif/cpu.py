"""The LIF operation by the C kernels of lif.c, on float32 and float64; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import parameters_of
from spikekit.ops.lif.reference import LIFRule, lif_reference, state_dtype
from spikekit.surrogate import ATan

# Steps whose membranes are recomputed together.
CHUNK = 32

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
        *((name, ctypes.c_int64) for name in ("steps", "neurons", "chunk")),
        *((name, ctypes.c_int32) for name in ("threads", "each", "reset", "inclusive", "detach", "surrogate")),
        ("numbers", ctypes.c_double * 2),
        *((name, ctypes.c_void_p) for name in ("x", "v0", "beta", "threshold", "quantum")),
        *((name, ctypes.c_void_p) for name in ("spikes", "v", "checkpoints", "grad_spikes", "grad_v", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("grad_v0", "grad_beta", "grad_threshold", "grad_quantum")),
    ]


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key."""
    return dtype in FLOATS and surrogate in SURROGATE_NUMBERS and KERNELS.trusted(state_dtype(dtype))


def forward(
    x: Tensor,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    chunk: int | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes, checkpoints (None without `chunk`) and last v; the arguments as `spikekit.ops.lif.fused` lays them out.

    checkpoints [ceil(T / chunk) - 1, M]: v before the steps chunk, 2·chunk, ...
    """
    dtype = state_dtype(x.dtype)
    drive = x.to(dtype)
    parameters = parameters_of(drive, *parameters)
    neurons = x[0].numel()
    spikes, v = native.empty_like(drive), native.empty_like(drive[0])
    kept = None if chunk is None else native.empty((-(-len(x) // chunk) - 1, neurons), dtype)
    values = parameters_of(drive, *parameters)
    call = new_call(Call, drive, v0, values, reset, inclusive, chunk)
    native.point(call, spikes=spikes, v=v, checkpoints=kept)
    KERNELS.library(dtype).lif_forward(ctypes.byref(call))
    return spikes.to(x.dtype), kept, v


def backward(
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    x: Tensor,
    checkpoints: Tensor | None,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    chunk: int,
    learn: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x and v0, and with `learn` of beta, threshold and quantum for every neuron, summed over time."""
    dtype = state_dtype(x.dtype)
    drive = x.to(dtype)
    parameters = parameters_of(drive, *parameters)
    upstream = None if grad_spikes is None else grad_spikes.to(dtype)
    g_x, g_v0 = native.empty_like(drive), native.empty_like(drive[0])
    sums = [native.empty_like(g_v0) for _ in range(3)] if learn else []
    values = parameters_of(drive, *parameters)
    call = new_call(Call, drive, v0, values, reset, inclusive, chunk)
    set_gradient(call, detach_reset, surrogate, numbers)
    native.point(call, checkpoints=checkpoints, grad_spikes=upstream, grad_v=grad_v, grad_x=g_x, grad_v0=g_v0)
    native.point(call, **dict(zip(("grad_beta", "grad_threshold", "grad_quantum"), sums, strict=False)))
    if KERNELS.library(dtype).lif_backward(ctypes.byref(call)):
        raise MemoryError("lif_backward: no memory for the membranes of one chunk")
    return g_x.to(x.dtype), g_v0, sums


AnyCall = TypeVar("AnyCall", bound=Call)


def new_call(
    kind: type[AnyCall],
    drive: Tensor,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    chunk: int | None,
) -> AnyCall:
    """What forward and backward pass have in common; `kind` may add fields of its own behind those of `Call`."""
    steps, neurons = len(drive), drive[0].numel()
    call = kind(steps=steps, neurons=neurons, chunk=chunk or steps, threads=native.threads_for(steps * neurons))
    call.each, call.reset, call.inclusive = parameters[0].ndim > 0, RESETS.index(reset), inclusive
    beta, threshold, quantum = parameters
    native.point(call, x=drive, v0=v0, beta=beta, threshold=threshold, quantum=quantum)
    return call


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
        spikes, kept, v = forward(x, None, values, reset, False, 3)
        if not (torch.equal(spikes, expected) and torch.equal(v, last)):
            raise ArithmeticError(f"other spikes than the reference, reset {reset}")
        key, numbers = ATan().encode()
        found = backward(
            upstream, torch.ones_like(v), x, kept, None, values, reset, False, False, key, numbers, 3, True
        )
        names = ("x", "beta", "threshold", "quantum")
        for name, value, wanted in zip(names, (found[0], *found[2]), gradients, strict=True):
            if wanted is not None and not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("lif.c"), _self_test)
