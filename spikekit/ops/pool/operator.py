"""Max-pooling as an operator: it keeps a byte a window for the backward pass, where torch keeps 8 and the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.operators import differentiable, fake, operator
from spikekit.ops.pool import cpu


@operator("max_pool2d")
def max_pool2d_kernel(x: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each window, and its place there, of x [N, C, H, W] on the CPU, contiguous or channels last."""
    return cpu.forward(x, window)


@operator("max_pool2d_backward")
def max_pool2d_kernel_backward(grad: Tensor, place: Tensor, size: Sequence[int], window: Sequence[int]) -> Tensor:
    """The gradient of x."""
    return cpu.backward(grad, place, size, window)


@fake("max_pool2d")
def _(x: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    shape = (*x.shape[:2], x.shape[2] // window[0], x.shape[3] // window[1])
    return _like(x, shape, x.dtype), _like(x, shape, torch.uint8)


@fake("max_pool2d_backward")
def _(grad: Tensor, place: Tensor, size: Sequence[int], window: Sequence[int]) -> Tensor:
    return _like(place, (*place.shape[:2], *size), grad.dtype)


def _like(x: Tensor, shape: Sequence[Any], dtype: torch.dtype) -> Tensor:
    if x.is_contiguous():
        return x.new_empty(shape, dtype=dtype)
    images, channels, height, width = shape
    return x.new_empty((images, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.window = inputs
    ctx.size = tuple(x.shape[2:])
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> Any:
    if grad is None:
        return None, None
    return max_pool2d_kernel_backward(grad, ctx.saved_tensors[0], ctx.size, ctx.window), None


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, place, _, ctx.window = inputs
    ctx.save_for_backward(place)


def _second(ctx: Any, upstream: Tensor) -> Any:
    """The gradient is linear in `grad`: its derivative takes from each window the number at the same place."""
    (place,) = ctx.saved_tensors
    (high, wide), (height, width) = ctx.window, place.shape[2:]
    blocks = upstream[..., : height * high, : width * wide].unflatten(3, (width, wide)).unflatten(2, (height, high))
    blocks = blocks.transpose(3, 4).flatten(4)
    return blocks.gather(4, place[..., None].long()).squeeze(4), None, None, None


differentiable("max_pool2d", _backward, _setup_context)
differentiable("max_pool2d_backward", _second, _setup_second)
