"""The sigma-delta neuron by the C kernels of sigma_delta.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, arranged_as_new, dense, parameters_of
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results as in `sequence.forward`."""
    drive = dense(x)
    threshold, bias = parameters_of(drive, threshold, bias)
    spikes = native.empty_like(drive)
    activations = native.empty_like(drive) if keep else drive.new_empty(0)
    sigma, act, residue = (_copied(start, drive[0]) for start in starts)
    call = _new_call(drive, activation, threshold.ndim > 0)
    native.point(call, x=drive, threshold=threshold, bias=bias, spikes=spikes, activations=activations)
    native.point(call, sigma=sigma, act=act, residue=residue)
    KERNELS.library(drive.dtype).sigma_delta_forward(ctypes.byref(call))
    kept = arranged_as_new(activations, x) if keep else activations
    sigma, act, residue = (arranged_as_new(state, x[0]) for state in (sigma, act, residue))
    return arranged_as_new(spikes, x), kept, sigma, act, residue


def backward(
    grad_spikes: Tensor,
    grad_sigma: Tensor | None,
    grad_act: Tensor | None,
    activations: Tensor,
    activation: str,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of x and sigma0, and with `learn` of the bias for every neuron, summed over time."""
    act = dense(activations)
    upstream = arranged(grad_spikes, act)
    end = None if grad_act is None else arranged(grad_act, act[0])
    g_x, g_sigma = native.empty_like(act), _copied(grad_sigma, act[0])
    g_bias = torch.zeros_like(act[0]) if learn else None
    call = _new_call(act, activation, False)
    native.point(call, activations=act, grad_spikes=upstream, grad_act=end)
    native.point(call, grad_x=g_x, grad_sigma=g_sigma, grad_bias=g_bias)
    KERNELS.library(act.dtype).sigma_delta_backward(ctypes.byref(call))
    return arranged_as_new(g_x, activations), arranged_as_new(g_sigma, activations[0]), g_bias


def _copied(start: Tensor | None, model: Tensor) -> Tensor:
    return torch.zeros_like(model) if start is None else torch.empty_like(model).copy_(start)


def _new_call(sequence: Tensor, activation: str, each: bool) -> Call:
    steps, elements = len(sequence), sequence.numel()
    threads = native.threads_for(elements)
    return Call(steps=steps, neurons=elements // steps, threads=threads, each=each, relu=activation == "relu")


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x, upstream = torch.randn(2, 7, 37, generator=generator, dtype=dtype).unbind(0)
    for activation in ("relu", "none"):
        leaves = [x.clone().requires_grad_(), torch.full((37,), 0.2, dtype=dtype).requires_grad_()]
        threshold = torch.full((37,), 0.5, dtype=dtype)
        with torch.enable_grad():
            expected = sigma_delta_reference(leaves[0], None, None, None, threshold, leaves[1], activation)
            loss = (expected[0] * upstream).sum() + expected[2].sum() + expected[3].sum()
            gradients = torch.autograd.grad(loss, leaves)
        found = forward(x, (None, None, None), threshold, leaves[1].detach(), activation, True)
        if not all(map(torch.equal, found, expected)):
            raise ArithmeticError(f"other numbers than the reference, activation {activation}")
        end = torch.ones_like(x[0])
        g_x, _, g_bias = backward(upstream, end, end, found[1], activation, True)
        for name, value, wanted in (("x", g_x, gradients[0]), ("bias", g_bias, gradients[1])):
            if value is None or not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
                raise ArithmeticError(f"other gradient of {name} than the reference, activation {activation}")


KERNELS = native.Kernels(Path(__file__).with_name("sigma_delta.c"), _self_test)
