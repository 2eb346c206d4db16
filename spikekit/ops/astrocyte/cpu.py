"""The LIF modulated by astrocytes by the C kernels of astrocyte.c; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.astrocyte.reference import ACTS_ON
from spikekit.ops.astrocyte.self_test import CASES, hold_astrocyte
from spikekit.ops.layout import copied, parameters_of
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import state_dtype

GLIA = ("decay", "weight", "bias", "strength")


class _Call(lif.Call):
    """`astrocyte_call` of astrocyte.c."""

    _fields_: ClassVar[Any] = [
        *((name, ctypes.c_int64) for name in ("groups", "domains", "scales")),
        ("acts_on", ctypes.c_int32),
        *((name, ctypes.c_double) for name in ("own", "each_spike")),
        *((name, ctypes.c_void_p) for name in ("c0", "sensed", *GLIA)),
        *((name, ctypes.c_void_p) for name in ("c", "calcium", "activity", "next")),
        *((name, ctypes.c_void_p) for name in ("grad_calcium", "grad_c", "grad_sensed")),
        *((f"grad_{name}", ctypes.c_void_p) for name in GLIA),
    ]


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key."""
    return lif.support(KERNELS, dtype, surrogate)


def forward(
    x: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    sensed: Tensor | None,
    parameters: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    acts_on: str,
    own: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results as in `sequence.forward`."""
    drive = x.to(state_dtype(x.dtype)).contiguous()
    # Named, so that copies live until the kernel has read them.
    v0, c0, sensed = (None if a is None else a.contiguous() for a in (v0, c0, sensed))
    values, glia = _values(drive, parameters, acts_on), [value.contiguous() for value in glia]
    spikes, v = native.empty_like(drive), native.empty_like(drive[0])
    c = native.empty((drive.shape[1], *glia[0].shape), drive.dtype)
    membranes, calcium, activity = (
        native.empty((len(x), *shape) if keep else (0,), drive.dtype) for shape in (v.shape, c.shape, c.shape[:2])
    )
    call = _new_call(drive, v0, values, glia, reset, inclusive, acts_on, own)
    native.point(call, c0=c0, sensed=sensed, spikes=spikes, v=v, membranes=membranes)
    native.point(call, c=c, calcium=calcium, activity=activity)
    KERNELS.library(drive.dtype).astrocyte_forward(ctypes.byref(call))
    return spikes.to(x.dtype), membranes, calcium, activity, v, c


def backward(
    grad_spikes: Tensor,
    grad_calcium: Tensor | None,
    grad_v: Tensor | None,
    grad_c: Tensor | None,
    membranes: Tensor,
    calcium: Tensor,
    activity: Tensor,
    x: Tensor | None,
    v0: Tensor | None,
    c0: Tensor | None,
    parameters: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    acts_on: str,
    own: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Arguments and results as in `sequence.backward`, which also takes a gradient of the membranes."""
    upstream = grad_spikes.to(membranes.dtype).contiguous()
    grad_calcium, v0 = (None if a is None else a.contiguous() for a in (grad_calcium, v0))
    c0 = torch.zeros_like(calcium[0]) if c0 is None else c0.contiguous()
    # Only a gain asks for the numbers of the drive.
    drive = membranes if x is None else x.to(membranes.dtype).contiguous()
    values, glia = _values(membranes, parameters, acts_on), [value.contiguous() for value in glia]
    g_x, g_v, g_c = native.empty_like(membranes), copied(grad_v, membranes[0]), copied(grad_c, c0)
    g_sensed = native.empty_like(activity)
    learn = learn or acts_on == "threshold"
    sums = [torch.zeros_like(g_v) for _ in parameters] if learn else []
    following = torch.zeros_like(g_v) if learn else None
    of_glia = [torch.zeros_like(c0 if value.ndim == 2 else c0[..., 0]).contiguous() for value in glia]
    call = _new_call(drive, v0, values, glia, reset, inclusive, acts_on, own)
    lif.set_gradient(call, detach_reset, surrogate, numbers)
    native.point(call, membranes=membranes, grad_spikes=upstream, grad_x=g_x, grad_v0=g_v, next=following, c0=c0)
    native.point(call, calcium=calcium, activity=activity, grad_calcium=grad_calcium, grad_c=g_c, grad_sensed=g_sensed)
    native.point(call, **dict(zip(("grad_beta", "grad_threshold", "grad_quantum"), sums, strict=False)))
    native.point(call, **{f"grad_{name}": total for name, total in zip(GLIA, of_glia, strict=True)})
    KERNELS.library(membranes.dtype).astrocyte_backward(ctypes.byref(call))
    return g_x.to(grad_spikes.dtype), g_v, g_c, g_sensed, sums, [total.sum(0) for total in of_glia]


def _values(drive: Tensor, parameters: Sequence[Tensor], acts_on: str) -> list[Tensor]:
    """Parameters for the kernels: all single numbers, or one a neuron, as all are where thresholds move."""
    if acts_on == "threshold":
        beta, *others = parameters
        parameters = [beta.expand(drive.shape[2:]), *others]
    return parameters_of(drive, *parameters)


def _new_call(
    drive: Tensor,
    v0: Tensor | None,
    values: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    acts_on: str,
    own: float,
) -> _Call:
    call = lif.new_call(_Call, drive, v0, values, reset, inclusive)
    call.domains, call.scales = glia[0].shape
    call.groups = drive.shape[1] * call.domains
    call.acts_on, call.own = ACTS_ON.index(acts_on), own
    call.each_spike = 1 / (call.neurons // call.groups)
    native.point(call, **dict(zip(GLIA, glia, strict=True)))
    return call


def _self_test(dtype: torch.dtype) -> None:
    hold_astrocyte(dtype, CASES, forward, backward)


KERNELS = native.Kernels(Path(__file__).with_name("astrocyte.c"), _self_test)
