"""Two linear maps in a row as one: what lies between two layers of neurons becomes one set of synapses.

A pooling in front of a convolution is a convolution of a larger kernel and stride, wherever no window of the pooling
crosses the border; anything in front of a linear layer is a linear layer. What has no such form is multiplied out into
single synapses.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from spikekit.errors import ExportError
from spikekit.export.synapses import Array, Synapses, sparse_matrix

# Products of weights that multiplying out may take: about 2 GiB of memory.
PRODUCTS_MAX = 2**25


def identity(shape: tuple[int, ...]) -> Synapses:
    """Every neuron to the one at its own place, with weight 1."""
    if len(shape) == 3:
        return Synapses("conv", np.ones((shape[0], 1, 1, 1)), shape, shape, groups=shape[0])
    numbers = np.arange(np.prod(shape, dtype=np.int64))
    return Synapses("sparse", np.ones(len(numbers)), shape, shape, ends=np.stack([numbers, numbers]))


def gather(index: Array, in_shape: tuple[int, ...]) -> Synapses:
    """To each place of `index` the neuron that it names, and none to a place of -1."""
    post = np.flatnonzero(index.ravel() >= 0)
    ends = np.stack([post, index.ravel()[post].astype(np.int64)])
    return Synapses("sparse", np.ones(len(post)), in_shape, index.shape, ends=ends)


def compose(name: str, first: Synapses, then: Synapses) -> Synapses:
    """The synapses `then` behind the map `first`, whose output has as many neurons as `then` has inputs.

    name: what errors call the layer. Raises ExportError where the product is too large.
    """
    if then.kind == "dense":
        return _dense(name, first, then)
    if first.kind == then.kind == "conv" and (found := _convolution(first, then)) is not None:
        return found
    return _multiplied(name, first, then)


def _dense(name: str, first: Synapses, then: Synapses) -> Synapses:
    if first.kind == "dense":
        return Synapses("dense", then.weight @ first.weight, first.in_shape, then.out_shape)
    _check_size(name, len(then.weight) * max(first.n_in, first.count), first, then)
    post, pre, values = first.connections
    ends, weights = torch.from_numpy(np.stack([pre, post])), torch.from_numpy(np.array(values, np.float64))
    turned = sparse_matrix(ends, weights, (first.n_in, first.n_out))
    weight = torch.sparse.mm(turned, torch.from_numpy(then.weight.T.copy())).t().contiguous()
    return Synapses("dense", weight.numpy(), first.in_shape, then.out_shape)


def _convolution(first: Synapses, then: Synapses) -> Synapses | None:
    """Both as one convolution, or None where there is none, because the border would see something else."""
    channels = len(first.weight)
    depthwise = first.groups == channels == first.in_shape[0]
    single = then.groups == channels == len(then.weight)
    if not (depthwise or single) and (first.groups > 1 or then.groups > 1):
        return None
    kernel, stride, padding = [], [], []
    for axis in (0, 1):
        size, wide, deep = first.in_shape[axis + 1], first.weight.shape[axis + 2], then.weight.shape[axis + 2]
        reach = (wide - 1) * first.dilation[axis] + 1
        if then.padding[axis]:
            middle = (size - reach) // first.stride[axis] + 1
            apart = reach <= first.stride[axis] and middle * first.stride[axis] >= size
            if first.padding[axis] or not apart:
                return None
        kernel.append((deep - 1) * then.dilation[axis] * first.stride[axis] + reach)
        stride.append(first.stride[axis] * then.stride[axis])
        padding.append(first.padding[axis] + then.padding[axis] * first.stride[axis])
        size_out = (size + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1
        if size_out != then.out_shape[axis + 1]:
            return None
    inputs = first.weight if single else then.weight if depthwise else None
    weight = np.zeros((len(then.weight), first.in_shape[0] if inputs is None else inputs.shape[1], *kernel))
    for y, x in product(range(then.weight.shape[2]), range(then.weight.shape[3])):
        outer = then.weight[:, :, y, x]
        for v, u in product(range(first.weight.shape[2]), range(first.weight.shape[3])):
            inner = first.weight[:, :, v, u]
            at = [
                a * d * s + b * e
                for a, d, s, b, e in zip((y, x), then.dilation, first.stride, (v, u), first.dilation, strict=True)
            ]
            if single:
                weight[:, :, at[0], at[1]] += outer * inner
            elif depthwise:
                # Row o of a group sees the channels of that group alone.
                group = np.arange(len(outer)) * then.groups // len(outer)
                seen = group[:, None] * outer.shape[1] + np.arange(outer.shape[1])
                weight[:, :, at[0], at[1]] += outer * inner[seen, 0]
            else:
                weight[:, :, at[0], at[1]] += outer @ inner
    groups = first.groups if single else then.groups if depthwise else 1
    return Synapses(
        "conv", weight, first.in_shape, then.out_shape, (stride[0], stride[1]), (padding[0], padding[1]), groups=groups
    )


def _multiplied(name: str, first: Synapses, then: Synapses) -> Synapses:
    middle_of_first, pre, inner = first.sparse().connections
    post, middle, outer = then.connections
    # Each synapse of `then` meets all that end where it begins, which lie together.
    starts = np.searchsorted(middle_of_first, np.arange(then.n_in + 1))
    each = (starts[1:] - starts[:-1])[middle]
    _check_size(name, int(each.sum()), first, then)
    chosen = np.repeat(starts[middle] - (each.cumsum() - each), each) + np.arange(each.sum())
    pairs, place = np.unique(np.repeat(post, each) * first.n_in + pre[chosen], return_inverse=True)
    weight = np.bincount(place, np.repeat(outer, each) * inner[chosen], minlength=len(pairs))
    ends = np.stack([pairs // first.n_in, pairs % first.n_in])
    return Synapses("sparse", weight, first.in_shape, then.out_shape, ends=ends)


def _check_size(name: str, products: int, first: Synapses, then: Synapses) -> None:
    if products > PRODUCTS_MAX:
        raise ExportError(
            f"{name}: with what lies in front of it, from {first.in_shape} to {then.out_shape}, it makes "
            f"{products:,} products of weights, which are too many to multiply out. Put an sk.LIF between the two, or "
            "a strided convolution in their place."
        )
