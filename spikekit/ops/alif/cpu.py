"""The LIF with an adaptive threshold by the C kernels of alif.c; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.alif.reference import alif_reference
from spikekit.ops.layout import arranged, dense, handed_out, parameters_of
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.self_test import hold

# `step` of the neuron is a function in C.
_PARAMETERS = (*lif.PARAMETERS, "rho", "rise")


class Call(lif.Call):
    """`alif_call` of alif.c."""

    _fields_: ClassVar[Any] = [
        *((name, ctypes.c_void_p) for name in ("a0", "rho", "rise", "a", "adaptations")),
        *((name, ctypes.c_void_p) for name in ("grad_a", "grad_a0", "grad_rho", "grad_rise")),
    ]


def forward(
    x: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    keep: bool,
) -> list[Tensor]:
    """Arguments and results as in `sequence.forward`."""
    drive = dense(x).to(state_dtype(x.dtype))
    v0, a0 = arranged(v0, drive[0]), arranged(a0, drive[0])
    *values, rho, rise = parameters_of(drive, *parameters)
    spikes, v, a = native.empty_like(drive), native.empty_like(drive[0]), native.empty_like(drive[0])
    membranes, adaptations = (native.empty_like(drive) if keep else v.new_empty(0) for _ in range(2))
    call = lif.new_call(Call, drive, v0, values, reset, inclusive)
    native.point(call, spikes=spikes, v=v, membranes=membranes)
    native.point(call, a0=a0, rho=rho, rise=rise, a=a, adaptations=adaptations)
    KERNELS.library(drive.dtype).alif_forward(ctypes.byref(call))
    return handed_out(x, (spikes.to(x.dtype), membranes, adaptations), (v, a))


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
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of x, v0 and a0, and with `learn` of the parameters for every neuron, summed over time."""
    u = dense(membranes)
    upstream, adaptations = arranged(grad_spikes, u).to(u.dtype), arranged(adaptations, u)
    v0, a0, end_v, end_a = (arranged(value, u[0]) for value in (v0, a0, grad_v, grad_a))
    *values, rho, rise = parameters_of(u, *parameters)
    g_x, g_v0, g_a0 = native.empty_like(u), native.empty_like(u[0]), native.empty_like(u[0])
    call = lif.new_call(Call, u, v0, values, reset, inclusive)
    lif.set_gradient(call, detach_reset, surrogate, numbers)
    sums = lif.new_sums(call, _PARAMETERS, g_v0) if learn else []
    native.point(call, membranes=u, grad_spikes=upstream, grad_v=end_v, grad_x=g_x, grad_v0=g_v0)
    native.point(call, a0=a0, rho=rho, rise=rise, adaptations=adaptations, grad_a=end_a, grad_a0=g_a0)
    KERNELS.library(u.dtype).alif_backward(ctypes.byref(call))
    return handed_out(membranes, (g_x.to(grad_spikes.dtype),), (g_v0, g_a0)), sums


def _self_test(dtype: torch.dtype) -> None:
    hold(
        dtype,
        lif.RULES,
        dict(zip(_PARAMETERS, (0.9, 0.5, 0.7, 0.8, 0.3), strict=True)),
        lambda rule, x, beta, threshold, quantum, rho, rise: alif_reference(
            x, None, None, beta, threshold, quantum, rho, rise, rule
        ),
        lambda rule, x, *values: forward(x, None, None, values, rule.reset, False, True),
        _tested_gradients,
        ends=(3, 4),
    )


def _tested_gradients(
    rule: LIFRule, upstream: Tensor, end: Tensor, outputs: Any, x: Tensor, *values: Tensor
) -> Sequence[Tensor]:
    choices = (rule.reset, False, False, *rule.surrogate.encode(), True)
    (g_x, _, _), sums = backward(upstream, end, end, outputs[1], outputs[2], None, None, values, *choices)
    return g_x, *sums


KERNELS = native.Kernels(Path(__file__).with_name("alif.c"), _self_test)
