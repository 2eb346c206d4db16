"""The sigma-delta neuron by the C kernels of sigma_delta.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, copied, dense, handed_out, parameters_of
from spikekit.ops.self_test import hold
from spikekit.ops.sigma_delta.reference import sigma_delta_reference


class Call(ctypes.Structure):
    """`sigma_delta_call` of sigma_delta.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "neurons")),
        *((name, ctypes.c_int32) for name in ("threads", "each", "relu")),
        *((name, ctypes.c_void_p) for name in ("x", "threshold", "bias")),
        *((name, ctypes.c_void_p) for name in ("spikes", "activations", "sigma", "act", "residue")),
        *((name, ctypes.c_void_p) for name in ("grad_spikes", "grad_act", "grad_x", "grad_sigma", "grad_bias")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether these kernels serve a drive of `dtype`: not of half precision, to which spikes would be rounded."""
    return dtype in (torch.float32, torch.float64) and KERNELS.trusted(dtype)


def forward(
    x: Tensor,
    starts: tuple[Tensor | None, Tensor | None, Tensor | None],
    threshold: Tensor,
    bias: Tensor,
    activation: str,
    keep: bool,
) -> list[Tensor]:
    """Arguments and results as in `sequence.forward`."""
    drive = dense(x)
    threshold, bias = parameters_of(drive, threshold, bias)
    spikes = native.empty_like(drive)
    activations = native.empty_like(drive) if keep else drive.new_empty(0)
    sigma, act, residue = (copied(start, drive[0]) for start in starts)
    call = _new_call(drive, activation, threshold.ndim > 0)
    native.point(call, x=drive, threshold=threshold, bias=bias, spikes=spikes, activations=activations)
    native.point(call, sigma=sigma, act=act, residue=residue)
    KERNELS.library(drive.dtype).sigma_delta_forward(ctypes.byref(call))
    return handed_out(x, (spikes, activations), (sigma, act, residue))


def backward(
    grad_spikes: Tensor,
    grad_sigma: Tensor | None,
    grad_act: Tensor | None,
    activations: Tensor,
    activation: str,
    learn: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of x and sigma0, and with `learn` of the bias for every neuron, summed over time."""
    act = dense(activations)
    upstream, end = arranged(grad_spikes, act), arranged(grad_act, act[0])
    g_x, g_sigma = native.empty_like(act), copied(grad_sigma, act[0])
    sums = [torch.zeros_like(act[0])] if learn else []
    call = _new_call(act, activation, False)
    native.point(call, activations=act, grad_spikes=upstream, grad_act=end)
    native.point(call, grad_x=g_x, grad_sigma=g_sigma, grad_bias=sums[0] if learn else None)
    KERNELS.library(act.dtype).sigma_delta_backward(ctypes.byref(call))
    return handed_out(activations, (g_x,), (g_sigma,)), sums


def _new_call(sequence: Tensor, activation: str, each: bool) -> Call:
    steps, elements = len(sequence), sequence.numel()
    threads = native.threads_for(elements)
    return Call(steps=steps, neurons=elements // steps, threads=threads, each=each, relu=activation == "relu")


def _self_test(dtype: torch.dtype) -> None:
    threshold = torch.full((37,), 0.5, dtype=dtype)
    hold(
        dtype,
        ("relu", "none"),
        {"bias": 0.2},
        lambda kind, x, bias: sigma_delta_reference(x, None, None, None, threshold, bias, kind),
        lambda kind, x, *values: forward(x, (None, None, None), threshold, values[0], kind, True),
        _tested_gradients,
        ends=(2, 3),
    )


def _tested_gradients(
    kind: str, upstream: Tensor, end: Tensor, outputs: Any, x: Tensor, *values: Tensor
) -> Sequence[Tensor]:
    (g_x, _), sums = backward(upstream, end, end, outputs[1], kind, True)
    return g_x, *sums


KERNELS = native.Kernels(Path(__file__).with_name("sigma_delta.c"), _self_test)
