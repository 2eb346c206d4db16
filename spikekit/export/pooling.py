"""Pooling and upsampling of images as synapses: every window a sum of neurons with one weight."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikekit.errors import ExportError
from spikekit.export.compose import gather
from spikekit.export.synapses import Array, Pair, Synapses

Shape = tuple[int, ...]


def pair(value: int | tuple[int, ...]) -> Pair:
    """A size given as one number or as two."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def average_pool(pool: nn.AvgPool2d, shape: Shape) -> Synapses:
    """`nn.AvgPool2d`, sum pooling by its divisor_override included, of images of `shape` (C, H, W)."""
    return _windows(str(pool), pool, shape, pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), (1, 1))


def maximum_pool(name: str, pool: nn.MaxPool2d, shape: Shape) -> Synapses:
    """The windows of `nn.MaxPool2d`, each neuron in them with weight 1; name: what errors call the layer."""
    geometry = (pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), pair(pool.dilation))
    return _windows(name, pool, shape, *geometry, share=1.0)


def adaptive_pool(pool: nn.AdaptiveAvgPool2d, shape: Shape) -> Synapses:
    """`nn.AdaptiveAvgPool2d` of images of `shape` (C, H, W)."""
    out = pool(torch.zeros(1, *shape)).shape[2:]
    if all(size % count == 0 for size, count in zip(shape[1:], out, strict=True)):
        window = (shape[1] // out[0], shape[2] // out[1])
        return average_pool(nn.AvgPool2d(window), shape)
    # torch's rule: window i of n begins at floor(i·size / n) and ends before ceil((i + 1)·size / n).
    ends = [
        [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(shape[1:], out, strict=True)
    ]
    numbers = np.arange(shape[1] * shape[2]).reshape(shape[1:])
    windows = [numbers[top:bottom, left:right].ravel() for top, bottom in ends[0] for left, right in ends[1]]
    post = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    weight = np.concatenate([np.full(len(window), 1 / len(window)) for window in windows])
    return _planes(post, np.concatenate(windows), weight, shape, (shape[0], *out))


def upsampled(grow: nn.Upsample, shape: Shape) -> Synapses:
    """`nn.Upsample` by repeating pixels, of images of `shape` (C, H, W)."""
    numbers = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(1, *shape)
    return gather(grow(numbers)[0].long().numpy(), shape)


def _windows(
    name: str,
    pool: nn.Module,
    shape: Shape,
    window: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    share: float | None = None,
) -> Synapses:
    """share: the weight of each neuron in a window; None: what `pool`, an average, makes of an image of ones."""
    ones = torch.ones(1, 1, *shape[1:], dtype=torch.float64)
    try:
        pooled = pool(ones)
    except RuntimeError as error:
        raise ExportError(f"{name} cannot take the shape {shape}: {error}") from error
    if not isinstance(pooled, Tensor):
        raise ExportError(f"{name} gives indices beside its output; make it with return_indices=False")
    given = pooled[0, 0]
    out_shape = (shape[0], *given.shape)
    kernel = torch.ones(1, 1, *window, dtype=torch.float64)
    inside = F.conv2d(ones, kernel, None, stride, padding, dilation)[0, 0]
    if inside.shape == given.shape:
        shares = (given / inside).flatten() if share is None else torch.full((given.numel(),), share)
        if bool((shares == shares[0]).all()):
            weight = np.full((shape[0], 1, *window), float(shares[0]))
            return Synapses("conv", weight, shape, out_shape, stride, padding, dilation, groups=shape[0])
    # The last windows reach beyond the border, or every window divides by what it holds.
    beyond = [
        max(0, (count - 1) * step + (wide - 1) * apart + 1 - size - edge)
        for count, step, wide, apart, size, edge in zip(
            given.shape, stride, window, dilation, shape[1:], padding, strict=True
        )
    ]
    numbers = torch.arange(1, shape[1] * shape[2] + 1, dtype=torch.float64).reshape(1, 1, *shape[1:])
    edged = F.pad(numbers, (padding[1], beyond[1], padding[0], beyond[0]))
    images = F.unfold(edged, window, dilation, stride=stride)[0]
    pre = images.long().numpy() - 1
    real = pre >= 0
    each = given.flatten().numpy() / real.sum(0) if share is None else np.full(pre.shape[1], share)
    post = np.broadcast_to(np.arange(pre.shape[1]), pre.shape)[real]
    return _planes(post, pre[real], each[post], shape, out_shape)


def _planes(post: Array, pre: Array, weight: Array, shape: Shape, out_shape: Shape) -> Synapses:
    """The same synapses in every channel: post, pre and weight [k] of one channel's plane."""
    order = np.lexsort((pre, post))
    channels = np.arange(shape[0])[:, None]
    sizes = (int(np.prod(out_shape[1:])), int(np.prod(shape[1:])))
    ends = np.stack([(channels * size + at[order]).ravel() for size, at in zip(sizes, (post, pre), strict=True)])
    return Synapses("sparse", np.tile(weight[order], shape[0]), shape, out_shape, ends=ends.astype(np.int64))
