"""The linear map between two layers of neurons: weights with their geometry, dense, convolutional or one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spikekit.ops.conv import conv2d
from spikekit.ops.linear import linear

Pair = tuple[int, int]
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Synapses:
    """Weights from a layer of shape `in_shape` to one of shape `out_shape`.

    kind "dense": weight [out, in]. "conv": weight [C_out, C_in / groups, k_h, k_w], torch's cross-correlation, on
    layers of shape (C, H, W). "sparse": weight [k], of which each is one synapse, and ends [2, k]: its postsynaptic and
    presynaptic neuron, in ascending order, each pair once. Row: an output neuron, or an output channel of a
    convolution, the unit that shares a scale.
    """

    kind: str
    weight: Array
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    ends: NDArray[np.int64] | None = None

    @property
    def n_in(self) -> int:
        """Number of presynaptic neurons."""
        return prod(self.in_shape)

    @property
    def n_out(self) -> int:
        """Number of postsynaptic neurons."""
        return prod(self.out_shape)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.n_out if self.kind == "sparse" else len(self.weight)

    @property
    def image(self) -> Pair:
        """Height and width of what a convolution gives."""
        sizes = zip(self.in_shape[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        height, width = ((size + 2 * pad - apart * (k - 1) - 1) // step + 1 for size, k, step, pad, apart in sizes)
        return height, width

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        if self.ends is None:
            raise ValueError(f"synapses of kind {self.kind!r} have no list of ends")
        return self.ends

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Of sparse synapses, each one's place in its row [k]."""
        post = self._ends[0]
        first = np.searchsorted(post, np.arange(self.n_out))
        return np.arange(len(post)) - first[post]

    def by_row(self) -> Array:
        """The weights of each row [rows, k], with zeros behind those of sparse rows that have fewer."""
        if self.kind != "sparse":
            return self.weight.reshape(self.rows, -1)
        padded = np.zeros((self.n_out, 1 + int(self._places.max(initial=0))), self.weight.dtype)
        padded[self._ends[0], self._places] = self.weight
        return padded

    def per_weight(self, per_row: Array) -> Array:
        """One value a row [rows] -> the same, broadcastable to the weights."""
        if self.kind == "sparse":
            return per_row[self._ends[0]]
        return per_row.reshape(-1, *[1] * (self.weight.ndim - 1))

    def per_neuron(self, per_row: Array) -> Array:
        """One value a row [rows] -> one value a neuron [n_out]."""
        return np.repeat(per_row, self.n_out // len(per_row))

    def with_weight(self, weight: Array) -> Synapses:
        """The same geometry with other weights."""
        return replace(self, weight=weight)

    def onto(self, shape: tuple[int, ...]) -> Synapses:
        """The same synapses onto neurons that are arranged in another shape of the same size."""
        return replace(self, out_shape=shape)

    def within(self, shape: tuple[int, ...], offset: int) -> Synapses:
        """The same synapses onto a layer of `shape`, whose neurons from number `offset` on are these."""
        if self.kind == "conv" and self.groups == 1 and len(shape) == 3 and self.out_shape[1:] == shape[1:]:
            # Channels without weights for the others: a convolution is smaller, and faster, than its single synapses.
            weight = np.zeros((shape[0], *self.weight.shape[1:]), self.weight.dtype)
            first = offset // prod(shape[1:])
            weight[first : first + len(self.weight)] = self.weight
            return replace(self, weight=weight, out_shape=shape)
        single = self.sparse()
        post, pre = single._ends
        return replace(single, out_shape=shape, ends=np.stack([post + offset, pre]))

    def scaled(self, factor: Array) -> Synapses:
        """The drive of each neuron multiplied by `factor` [n_out]; one by one where the neurons of a row differ."""
        per_row = np.reshape(factor, (self.rows, -1))
        if (per_row == per_row[:, :1]).all():
            return self.with_weight(self.weight * self.per_weight(per_row[:, 0]))
        single = self.sparse()
        return single.with_weight(single.weight * single.per_weight(np.asarray(factor)))

    def sparse(self) -> Synapses:
        """The same synapses one by one, without those of weight 0."""
        if self.kind == "sparse":
            return self
        post, pre, values = self.connections
        order = np.lexsort((pre, post))
        ends = np.stack([post[order], pre[order]])
        return Synapses("sparse", values[order], self.in_shape, self.out_shape, ends=ends)

    def apply(self, spikes: Tensor) -> Tensor:
        """Drive [N, n_out] of presynaptic activity [N, n_in], in the dtype of `spikes`."""
        weight = self._tensor(spikes)
        if self.kind == "dense":
            return F.linear(spikes, weight)
        if self.kind == "sparse":
            return self._sparse_sums(spikes, weight)
        drive = F.conv2d(
            spikes.reshape(-1, *self.in_shape),
            weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return drive.flatten(1)

    def sums(self, activity: Tensor, weight: Tensor | None = None) -> Tensor:
        """Drive [N, *out_shape] of activity [N, ...], whole numbers; as `apply`, event by event where faster.

        weight: used instead of the own ones. It may lie in memory as ops/conv leaves it, channels last.
        """
        weight = self._tensor(activity) if weight is None else weight.to(activity)
        if self.kind == "dense":
            return linear(activity.flatten(1), weight).reshape(-1, *self.out_shape)
        if self.kind == "sparse":
            return self._sparse_sums(activity.flatten(1), weight).reshape(-1, *self.out_shape)
        images = activity.reshape(-1, *self.in_shape)
        if self.groups == 1:
            sums = conv2d(images, weight, None, self.stride, self.padding, self.dilation)
        else:
            sums = F.conv2d(images, weight, None, self.stride, self.padding, self.dilation, self.groups)
        return sums if sums.shape[1:] == self.out_shape else sums.reshape(-1, *self.out_shape)

    def _sparse_sums(self, activity: Tensor, weight: Tensor) -> Tensor:
        ends = torch.from_numpy(self._ends).to(activity.device)
        return torch.sparse.mm(sparse_matrix(ends, weight, (self.n_out, self.n_in), ordered=True), activity.t()).t()

    def _tensor(self, model: Tensor) -> Tensor:
        return torch.from_numpy(self.weight).to(model)

    @cached_property
    def most(self) -> int:
        """The largest sum of |weights| that one output neuron can receive, for whole numbers."""
        return int(np.abs(self.by_row()).sum(1).max())

    @cached_property
    def connections(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Every non-zero synapse as (postsynaptic index, presynaptic index, weight)."""
        if self.kind == "dense":
            post, pre = np.nonzero(self.weight)
            return post, pre, self.weight[post, pre]
        if self.kind == "sparse":
            real = self.weight != 0
            return self._ends[0][real], self._ends[1][real], self.weight[real]
        # Unfolding the neurons' own numbers tells which neuron each kernel position sees; 0 stands for the padding.
        numbers = torch.arange(1, self.n_in + 1, dtype=torch.float64).reshape(1, *self.in_shape)
        kernel = self.weight.shape[2:]
        c_out, pixels = self.weight.shape[0], self.n_out // self.weight.shape[0]
        posts, pres, weights = [], [], []
        for group, part in enumerate(numbers.chunk(self.groups, dim=1)):
            seen = F.unfold(part, kernel, self.dilation, self.padding, self.stride)[0].numpy().astype(np.int64)
            channels = np.arange(group * c_out // self.groups, (group + 1) * c_out // self.groups)
            weight = self.weight[channels].reshape(len(channels), -1, 1)
            post = channels[:, None, None] * pixels + np.arange(pixels)
            weight, post, pre = np.broadcast_arrays(weight, post, seen - 1)
            real = (weight != 0) & (pre >= 0)
            posts.append(post[real])
            pres.append(pre[real])
            weights.append(weight[real])
        return np.concatenate(posts), np.concatenate(pres), np.concatenate(weights)

    @property
    def count(self) -> int:
        """Number of non-zero synapses."""
        return len(self.connections[0])


def sparse_matrix(ends: Tensor, weight: Tensor, shape: tuple[int, int], ordered: bool = False) -> Tensor:
    """The numbers weight [k] at the rows and columns ends [2, k]; ordered: places ascend, and none is there twice."""
    # They are in range by construction. Torch 2.11 and 2.12 warn of checks that are off even where the constructor
    # itself is told so, but not where this is.
    with torch.sparse.check_sparse_tensor_invariants(False):
        return torch.sparse_coo_tensor(ends, weight, shape, is_coalesced=ordered)


INPUT, SELF = -1, -2
MAXIMUM = "maximum"
"""The activation of neurons that send the largest sum of their dendrites: see `maximum.py`."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses into a layer, and where they come from.

    source: the number of an earlier layer, `INPUT` for the network's input, or `SELF` for the layer's own spikes, which
    arrive one step later. shift: in integers, the weights count 2^shift times as much as those of shift 0. grain: in
    integers, what the source sends for 1.0 is the number 2^grain; None where it sends spikes, or the input's numbers.
    dendrite: which of the sums of a neuron it belongs to; neurons that are no `MAXIMUM` have one.
    """

    source: int
    synapses: Synapses
    shift: int = 0
    grain: int | None = None
    dendrite: int = 0


def counted(senses: Sequence[Projection], sent: Mapping[int, Tensor], dtype: torch.dtype) -> Tensor | None:
    """What arrives through them in all, [T, B, n]; None without any. sent: source -> [T, B, ...]."""
    total = None
    for each in senses:
        activity = sent[each.source].to(dtype)
        heard = each.synapses.apply(activity.flatten(2).flatten(0, 1)).unflatten(0, activity.shape[:2])
        total = heard if total is None else total + heard
    return total
