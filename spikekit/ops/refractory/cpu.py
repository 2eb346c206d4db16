"""The LIF with a refractory period by the C kernels of refractory.c; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, dense, handed_out, parameters_of
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.refractory.reference import refractory_reference
from spikekit.ops.self_test import hold


class Call(lif.Call):
    """`refractory_call` of refractory.c."""

    _fields_: ClassVar[Any] = [
        ("period", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("r0", "r", "countdowns")),
    ]


def forward(
    x: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    period: int,
    keep: bool,
) -> list[Tensor]:
    """Arguments and results as in `sequence.forward`."""
    drive = dense(x).to(state_dtype(x.dtype))
    v0, r0 = arranged(v0, drive[0]), arranged(r0, drive[0])
    values = parameters_of(drive, *parameters)
    spikes, v, r = native.empty_like(drive), native.empty_like(drive[0]), native.empty_like(drive[0])
    membranes, countdowns = (native.empty_like(drive) if keep else v.new_empty(0) for _ in range(2))
    call = lif.new_call(Call, drive, v0, values, reset, inclusive)
    call.period = period
    native.point(call, spikes=spikes, v=v, membranes=membranes, r0=r0, r=r, countdowns=countdowns)
    KERNELS.library(drive.dtype).refractory_forward(ctypes.byref(call))
    return handed_out(x, (spikes.to(x.dtype), membranes, countdowns), (v, r))


def backward(
    grad_spikes: Tensor,
    grad_v: Tensor | None,
    membranes: Tensor,
    countdowns: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    learn: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of x and v0, and with `learn` of the parameters for every neuron, summed over time."""
    u = dense(membranes)
    upstream, countdowns = arranged(grad_spikes, u).to(u.dtype), arranged(countdowns, u)
    v0, r0, end = (arranged(value, u[0]) for value in (v0, r0, grad_v))
    values = parameters_of(u, *parameters)
    g_x, g_v0 = native.empty_like(u), native.empty_like(u[0])
    call = lif.new_call(Call, u, v0, values, reset, inclusive)
    lif.set_gradient(call, detach_reset, surrogate, numbers)
    sums = lif.new_sums(call, lif.PARAMETERS, g_v0) if learn else []
    native.point(call, membranes=u, grad_spikes=upstream, grad_v=end, grad_x=g_x, grad_v0=g_v0)
    native.point(call, r0=r0, countdowns=countdowns)
    KERNELS.library(u.dtype).refractory_backward(ctypes.byref(call))
    return handed_out(membranes, (g_x.to(grad_spikes.dtype),), (g_v0,)), sums


def _self_test(dtype: torch.dtype) -> None:
    hold(
        dtype,
        lif.RULES,
        dict(zip(lif.PARAMETERS, (0.9, 0.5, 0.7), strict=True)),
        lambda rule, x, beta, threshold, quantum: refractory_reference(
            x, None, None, beta, threshold, quantum, 2, rule
        ),
        lambda rule, x, *values: forward(x, None, None, values, rule.reset, False, 2, True),
        _tested_gradients,
        ends=(3,),
    )


def _tested_gradients(
    rule: LIFRule, upstream: Tensor, end: Tensor, outputs: Any, x: Tensor, *values: Tensor
) -> Sequence[Tensor]:
    choices = (rule.reset, False, False, *rule.surrogate.encode(), True)
    (g_x, _), sums = backward(upstream, end, outputs[1], outputs[2], None, None, values, *choices)
    return g_x, *sums


KERNELS = native.Kernels(Path(__file__).with_name("refractory.c"), _self_test)
