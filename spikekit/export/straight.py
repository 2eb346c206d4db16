"""Straight-through gradients of an integer layer: forward in the chip's integers, backward as if they were reals.

Backward, with everything in units of membrane and slope = σ'((v - threshold) / unit) / unit:

    dL/dv[t] = dL/ds[t]·slope + dL/dv'[t]·(∂v'/∂v)       v' = v - quantum·s | v·(1 - s) | v, through slope as well
    dL/dv'[t - 1] = (keep / 4,096)·dL/dv[t]              roundings, clips and the wrap of the current count as identity

Rounding a weight counts as multiplying it by its scale. Bengio et al. 2013, arXiv 1308.3432.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikekit.export.integer import fire
from spikekit.export.integer_layer import DECAY_ONE, IntegerLayer
from spikekit.ops.integer import STATE_SHIFT
from spikekit.surrogate import Surrogate


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.dtype = x.dtype
        return value

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (grad * slope).to(ctx.dtype), None, None


def straight(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """`value`, whose gradient for x is that of slope·x; all of the same shape, or slope broadcastable."""
    result: Tensor = _Straight.apply(x, value, slope)
    return result


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sums: Tensor, bias: Tensor, layer: IntegerLayer, surrogate: Surrogate, detach_reset: bool
    ) -> tuple[Tensor, Tensor]:
        spikes, membranes, _ = fire(layer, sums)
        ctx.layer, ctx.surrogate, ctx.detach_reset = layer, surrogate, detach_reset
        ctx.save_for_backward(spikes, membranes)
        ctx.mark_non_differentiable(membranes)
        ctx.set_materialize_grads(False)
        if layer.fires:
            return spikes, membranes
        unit = torch.from_numpy(layer.unit).to(sums.device).reshape(sums.shape[2:])
        return (membranes / unit).to(torch.float32), membranes

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if grad is None:
            return None, None, None, None, None
        layer, (spikes, membranes) = ctx.layer, ctx.saved_tensors
        unit, keep, threshold, quantum = (
            torch.from_numpy(values).to(grad.device, torch.float32).reshape(grad.shape[2:])
            for values in (
                layer.unit,
                (DECAY_ONE - layer.decay) / DECAY_ONE,
                layer.threshold << STATE_SHIFT,
                layer.quantum,
            )
        )
        local, through = grad.to(torch.float32) / unit, None
        if layer.fires:
            v = membranes.to(torch.float32)
            slope = ctx.surrogate.derivative((v - threshold) / unit)
            local = local * slope
            if layer.reset != "none":
                held = 1 - spikes.to(torch.float32) if layer.reset == "hard" else torch.ones_like(v)
                change = slope / unit * (quantum if layer.reset == "soft" else v)
                through = held if ctx.detach_reset else held - change
        drive = torch.empty_like(local)
        carry = torch.zeros_like(local[0])
        for t in reversed(range(len(local))):
            now = local[t] + (carry if through is None else through[t] * carry)
            drive[t] = now
            carry = keep * now
        sums = (drive * 2.0 ** (layer.exponent + STATE_SHIFT)).to(spikes.dtype)
        return sums, drive.sum((0, 1)), None, None, None


def fire_straight(
    layer: IntegerLayer, sums: Tensor, bias: Tensor, surrogate: Surrogate, detach_reset: bool
) -> tuple[Tensor, Tensor]:
    """What leaves the layer [T, B, ...]: its spikes, or the membranes of a readout in units of 1.0; and its membranes.

    sums: [T, B, ...], as `integer.arriving` gives them. bias: the layer's own [...] as float32, which is there for its
    gradient. surrogate, detach_reset: of the trained neuron.
    """
    output, membranes = _Fire.apply(sums, bias, layer, surrogate, detach_reset)
    return output, membranes
