"""A convolution and the LIF layer behind it as one operator, for inference: the drive between them is not stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.conv import conv2d_events, serves
from spikekit.ops.conv import cpu as images
from spikekit.ops.conv.choice import events_pay
from spikekit.ops.conv_lif import cpu
from spikekit.ops.lif.operator import lif_inference
from spikekit.ops.operators import fake, not_differentiable, operator

__all__ = ["conv2d_lif", "pays"]


def pays(x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> bool:
    """Whether `conv2d_lif` is to be called for x [T, B, C, H, W]: nobody wants a gradient, and events pay.

    steps: stride, padding and dilation, each in y and x. A compiler, which cannot see the numbers, leaves the last
    question to the operator.
    """
    if torch.is_grad_enabled() or x.ndim != 5:
        return False
    flat = x.flatten(0, 1)
    if not (serves(flat, weight, bias, steps) and _supports(x.dtype)):
        return False
    return torch.compiler.is_compiling() or _events_pay(images.dense(flat), weight, steps)


def _events_pay(flat: Tensor, weight: Tensor, steps: Sequence[int]) -> bool:
    return events_pay(images.density(flat), flat.shape, weight.shape, steps, back=False)


def _supports(dtype: torch.dtype) -> bool:
    return cpu.supports(dtype)


# See spikekit.ops.linear.
_supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


@operator("conv2d_lif")
def conv2d_lif(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    steps: Sequence[int],
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, O, H', W'] and last v of x [T, B, C, H, W]: those of `conv2d` and `lif`, bit for bit.

    Both lie channels last in memory. In one pass where events pay, unless the weight holds a NaN or an Inf; else one
    after the other. steps: as for `pays`. The rest as in `lif_reference`.
    """
    flat = images.dense(x.flatten(0, 1))
    if _events_pay(flat, weight, steps):
        found = cpu.forward(flat, weight, bias, steps, v0, (beta, threshold, quantum), reset, inclusive, len(x))
        if found is not None:
            return found
    drive = conv2d_events(flat, weight, bias, steps).unflatten(0, x.shape[:2])
    return lif_inference(drive, v0, beta, threshold, quantum, reset, inclusive)


@fake("conv2d_lif")
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int], v0: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor]:
    height, width = (images.out_size(x.shape[a + 3], weight.shape[a + 2], *steps[a::2]) for a in (0, 1))
    shape = (x.shape[1], height, width, weight.shape[0])
    return x.new_empty(x.shape[0], *shape).permute(0, 1, 4, 2, 3), x.new_empty(shape).permute(0, 3, 1, 2)


not_differentiable("conv2d_lif")
