"""The LIF operation by the C kernels of lif.c, on float32 and float64; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, dense, handed_out, parameters_of
from spikekit.ops.lif.reference import LIFRule, lif_reference, state_dtype
from spikekit.ops.paths import forced_path
from spikekit.ops.self_test import hold
from spikekit.surrogate import ATan

PARAMETERS = ("beta", "threshold", "quantum")
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
# What self-tests try.
RULES = [LIFRule(reset, False, False, ATan()) for reset in RESETS]
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Call(ctypes.Structure):
    """`lif_call` of native/lif_call.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "neurons")),
        *((name, ctypes.c_int32) for name in ("threads", "each", "reset", "inclusive", "detach", "surrogate")),
        ("numbers", ctypes.c_double * 2),
        *((name, ctypes.c_void_p) for name in ("x", "v0", "beta", "threshold", "quantum")),
        *((name, ctypes.c_void_p) for name in ("spikes", "v", "membranes", "grad_spikes", "grad_v", "grad_x")),
        *((name, ctypes.c_void_p) for name in ("grad_v0", "grad_beta", "grad_threshold", "grad_quantum")),
    ]


def serve(kernels: native.Kernels, x: Tensor, surrogate: str) -> bool:
    """Whether the kernels of a neuron take x, a drive or membranes, with the surrogate of that key."""
    return forced_path() == "auto" and x.device.type == "cpu" and support(kernels, x.dtype, surrogate)


def support(kernels: native.Kernels, dtype: torch.dtype, surrogate: str) -> bool:
    """Whether the kernels of a neuron could take a drive of `dtype`; compiles them at the first call."""
    return dtype in FLOATS and surrogate in SURROGATE_NUMBERS and kernels.trusted(state_dtype(dtype))


def forward(
    x: Tensor, v0: Tensor | None, parameters: Sequence[Tensor], reset: str, inclusive: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes (empty unless `keep`) and last v, with the strides of `torch.empty_like`.

    parameters: beta, threshold and quantum.
    """
    drive = dense(x).to(state_dtype(x.dtype))
    v0 = arranged(v0, drive[0])
    values = parameters_of(drive, *parameters)
    spikes, v = native.empty_like(drive), native.empty_like(drive[0])
    membranes = native.empty_like(drive) if keep else v.new_empty(0)
    call = new_call(Call, drive, v0, values, reset, inclusive)
    call.spikes, call.v = spikes.data_ptr(), v.data_ptr()
    if keep:
        call.membranes = membranes.data_ptr()
    KERNELS.library(drive.dtype).lif_forward(ctypes.byref(call))
    spikes, membranes, v = handed_out(x, (spikes.to(x.dtype), membranes), (v,))
    return spikes, membranes, v


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
    upstream = arranged(grad_spikes, u).to(u.dtype)
    end, start = arranged(grad_v, u[0]), arranged(v0, u[0])
    values = parameters_of(u, *parameters)
    g_x, g_v0 = native.empty_like(u), native.empty_like(u[0])
    call = new_call(Call, u, start, values, reset, inclusive)
    set_gradient(call, detach_reset, surrogate, numbers)
    sums = new_sums(call, PARAMETERS, g_v0) if learn else []
    native.point(call, membranes=u, grad_spikes=upstream, grad_v=end, grad_x=g_x, grad_v0=g_v0)
    KERNELS.library(u.dtype).lif_backward(ctypes.byref(call))
    g_x, g_v0 = handed_out(membranes, (g_x.to(grad_spikes.dtype),), (g_v0,))
    return g_x, g_v0, sums


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


def new_sums(call: Call, names: Sequence[str], state: Tensor) -> list[Tensor]:
    """Room for the gradients of parameters for every neuron, like `state`, in the fields grad_NAME of the call."""
    sums = [native.empty_like(state) for _ in names]
    native.point(call, **{f"grad_{name}": total for name, total in zip(names, sums, strict=True)})
    return sums


def _self_test(dtype: torch.dtype) -> None:
    hold(
        dtype,
        RULES,
        {"beta": 0.9, "threshold": 0.5, "quantum": 0.7},
        lambda rule, x, beta, threshold, quantum: lif_reference(x, None, beta, threshold, quantum, rule),
        lambda rule, x, *values: forward(x, None, values, rule.reset, False, True),
        _tested_gradients,
        ends=(2,),
    )


def _tested_gradients(
    rule: LIFRule, upstream: Tensor, end: Tensor, outputs: Any, x: Tensor, *values: Tensor
) -> Sequence[Tensor]:
    curve = rule.surrogate.encode()
    g_x, _, sums = backward(upstream, end, outputs[1], None, values, rule.reset, False, False, *curve, True)
    return g_x, *sums


KERNELS = native.Kernels(Path(__file__).with_name("lif.c"), _self_test)
