"""The MPBN operation by the C kernels of mpbn.c, on float32 and float64; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, arranged_as_new
from spikekit.ops.lif.cpu import FLOATS, RESETS, SURROGATE_NUMBERS
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.mpbn.layer import Layer
from spikekit.ops.mpbn.reference import Outcome, mpbn_reference
from spikekit.surrogate import ATan

# Elements of a tile's state: four such arrays fit a second-level cache.
_TILE = 1 << 15
# A cache line of float32: narrower tiles would share one.
_LINE = 16


class _Call(ctypes.Structure):
    """`mpbn_call` of mpbn.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "rows", "length", "groups", "period", "width")),
        *((name, ctypes.c_int32) for name in ("threads", "joint", "each", "training")),
        *((name, ctypes.c_int32) for name in ("reset", "inclusive", "detach", "surrogate")),
        ("numbers", ctypes.c_double * 2),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
        *((name, ctypes.c_void_p) for name in ("x", "v0", "beta", "threshold", "quantum", "weight", "bias")),
        *((name, ctypes.c_void_p) for name in ("mean", "var", "running_mean", "running_var")),
        *((name, ctypes.c_void_p) for name in ("spikes", "u", "v")),
        *((name, ctypes.c_void_p) for name in ("grad_spikes", "grad_u", "grad_v", "grad_x", "grad_v0")),
        *((name, ctypes.c_void_p) for name in ("grad_beta", "grad_threshold", "grad_quantum")),
        *((name, ctypes.c_void_p) for name in ("grad_weight", "grad_bias")),
    ]


def supports(device: str, dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` on `device`; compiles them at the first call."""
    return (
        device == "cpu" and dtype in FLOATS and surrogate in SURROGATE_NUMBERS and KERNELS.trusted(state_dtype(dtype))
    )


# What torch.compiler.assume_constant_result does, which would import all of torch._dynamo here and now: a second.
supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


def forward(x: Tensor, v0: Tensor | None, layer: Layer, keep: bool) -> Outcome:
    """The whole sequence; membranes are empty unless `keep`."""
    dtype = state_dtype(x.dtype)
    drive = _settled(x, layer.weight).to(dtype)
    spikes, v = native.empty_like(drive), native.empty_like(drive[0])
    membranes = native.empty_like(drive) if keep else drive.new_empty(0)
    means, variances = (drive.new_empty((len(x), *layer.weight.shape) if layer.training else (0,)) for _ in range(2))
    copies = [value.clone(memory_format=torch.contiguous_format) for value in (layer.mean, layer.var)]
    running = copies if layer.training else [value.new_empty(0) for value in copies]
    call, alive = _call(drive, layer)
    start = arranged(v0, drive[0])
    native.point(call, x=drive, v0=start, spikes=spikes, u=membranes, v=v)
    if layer.training:
        native.point(call, mean=means, var=variances, running_mean=running[0], running_var=running[1])
    else:
        alive += _given(call, layer)
    if KERNELS.library(dtype).mpbn_forward(ctypes.byref(call)):
        raise MemoryError("mpbn_forward: no memory for the state of a tile")
    new = [arranged_as_new(spikes.to(x.dtype), x), arranged_as_new(membranes, x) if keep else membranes]
    return Outcome(new[0], new[1], arranged_as_new(v, x[0]), means, variances, *running)


def backward(
    grad_spikes: Tensor | None,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    layer: Layer,
    learn: bool,
) -> list[Tensor]:
    """Gradients of x and v0 in the state's dtype, of weight and bias in float64, and with `learn` those of beta,
    threshold and quantum for every neuron in float64.
    """
    dtype = membranes.dtype
    u = _settled(membranes, layer.weight)
    upstream = native.empty_like(u).zero_() if grad_spikes is None else arranged(grad_spikes.to(dtype), u)
    beyond = arranged(grad_membranes, u)
    end = arranged(grad_v, u[0])
    start = arranged(v0, u[0])
    g_x, g_v0 = native.empty_like(u), native.empty_like(u[0])
    affine = [torch.empty(layer.weight.shape, dtype=torch.float64) for _ in range(2)]
    sums = [torch.empty_like(u[0, 0], dtype=torch.float64) for _ in range(3)] if learn else []
    call, alive = _call(u, layer)
    alive += _given(call, layer)
    call.detach = layer.detach_reset
    call.surrogate, call.numbers = SURROGATE_NUMBERS[layer.surrogate], (*layer.numbers, 0.0, 0.0)[:2]
    native.point(call, v0=start, u=u, grad_spikes=upstream, grad_u=beyond, grad_v=end, grad_x=g_x, grad_v0=g_v0)
    native.point(call, grad_weight=affine[0], grad_bias=affine[1])
    native.point(call, **dict(zip(("grad_beta", "grad_threshold", "grad_quantum"), sums, strict=False)))
    if KERNELS.library(dtype).mpbn_backward(ctypes.byref(call)):
        raise MemoryError("mpbn_backward: no memory for the gradients of a tile")
    return [arranged_as_new(g_x, membranes), arranged_as_new(g_v0, membranes[0]), *affine, *sums]


def _settled(x: Tensor, weight: Tensor) -> Tensor:
    """X [T, B, C, ...] as the kernels read it: contiguous, or channels last where there is one value a channel."""
    if x.is_contiguous() or (weight.ndim == 1 and x.ndim > 3 and x.movedim(2, -1).is_contiguous()):
        return x
    return x.contiguous()


def _call(drive: Tensor, layer: Layer) -> tuple[_Call, list[Tensor]]:
    """The call, and the tensors that must outlive it."""
    steps, batch, groups = len(drive), drive.shape[1], layer.weight.numel()
    space = prod(drive.shape[2:]) // groups
    joint = space > 1 and drive.is_contiguous()
    # Channels last: a row for each place in space.
    period = 1 if joint else space
    rows, length = batch * period, drive[0, 0].numel() // period
    threads = native.threads_for(drive.numel())
    call = _Call(steps=steps, rows=rows, length=length, groups=groups, period=period, threads=threads, joint=joint)
    call.training, call.momentum, call.eps = layer.training, layer.momentum, layer.eps
    call.reset, call.inclusive = RESETS.index(layer.reset), layer.inclusive
    call.width = space if joint else _width(rows, length, threads)
    parameters = list(layer.neuron)
    call.each = any(value.ndim > 0 for value in parameters)
    if call.each:
        sample = drive[0, 0]
        parameters = [torch.empty_like(sample, dtype=value.dtype).copy_(value) for value in parameters]
    affine = [layer.weight.contiguous(), layer.bias.contiguous()]
    native.point(call, **dict(zip(("beta", "threshold", "quantum"), parameters, strict=True)))
    native.point(call, weight=affine[0], bias=affine[1])
    return call, [*parameters, *affine]


def _width(rows: int, length: int, threads: int) -> int:
    """Columns of a tile: a share for each thread, of a size that stays in cache, in whole cache lines."""
    widest = min(_TILE // rows, -(-length // threads))
    return min(length, max(_LINE, -(-widest // _LINE) * _LINE))


def _given(call: _Call, layer: Layer) -> list[Tensor]:
    """Point at statistics that are read alone, and return what must outlive the call."""
    statistics = [layer.mean.contiguous(), layer.var.contiguous()]
    native.point(call, mean=statistics[0], var=statistics[1])
    return statistics


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    for reset, shape in (("soft", (5, 6, 19)), ("hard", (5, 3, 4, 5)), ("none", (4, 2, 3, 1, 7))):
        rule = LIFRule(reset, False, False, ATan())
        x, upstream = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
        fixed = [torch.full((), value, dtype=dtype) for value in (0.9, 0.3, 0.7)]
        fixed += [torch.rand(shape[2], generator=generator, dtype=dtype) + 0.5 for _ in range(2)]
        at_rest = (torch.zeros(shape[2], dtype=dtype), torch.ones(shape[2], dtype=dtype))
        beta, threshold, quantum, weight, bias = (value.requires_grad_() for value in fixed)
        leaves = [x.requires_grad_(), beta, threshold, quantum, weight, bias]
        with torch.enable_grad():
            expected = mpbn_reference(x, None, beta, threshold, quantum, weight, bias, *at_rest, True, 0.1, 1e-5, rule)
            loss = (expected[0] * upstream).sum() + expected[2].sum()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        x, *parameters = (leaf.detach() for leaf in leaves)
        choices = (True, 0.1, 1e-5, reset, False, False, *ATan().encode(), False)
        found = forward(x, None, Layer.of(*parameters, *at_rest, *choices), True)
        if not all(torch.equal(a, b) for a, b in zip(found[:3], expected[:3], strict=True)):
            raise ArithmeticError(f"other spikes than the reference, reset {reset}")
        if not all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(found[3:], expected[3:], strict=True)):
            raise ArithmeticError(f"other statistics than the reference, reset {reset}")
        layer, end = Layer.of(*parameters, found.means, found.variances, *choices), torch.ones_like(found.v)
        g_x, _, g_weight, g_bias, *sums = backward(upstream, None, end, found.membranes, None, layer, True)
        names = ("x", "beta", "threshold", "quantum", "weight", "bias")
        ours = (g_x, *(total.sum() for total in sums), g_weight, g_bias)
        for name, value, wanted in zip(names, ours, gradients, strict=True):
            if wanted is not None and not torch.allclose(value.to(dtype), wanted, rtol=1e-3, atol=1e-3):
                raise ArithmeticError(f"other gradient of {name} than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("mpbn.c"), _self_test)
