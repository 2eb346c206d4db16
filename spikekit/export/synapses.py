"""The linear map between two layers of neurons: weights with their geometry, dense or convolutional."""

from __future__ import annotations

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

    kind "dense": weight [out, in]. kind "conv": weight [C_out, C_in / groups, k_h, k_w], torch's cross-correlation,
    on layers of shape (C, H, W). Row: an output neuron (dense) or output channel (conv), the unit that shares a scale.
    """

    kind: str
    weight: Array
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def n_in(self) -> int:
        """Number of presynaptic neurons."""
        return prod(self.in_shape)

    @property
    def n_out(self) -> int:
        """Number of postsynaptic neurons."""
        return prod(self.out_shape)

    @property
    def fan_in(self) -> int:
        """The most synapses that one output neuron can have."""
        return int(np.prod(self.weight.shape[1:]))

    def with_weight(self, weight: Array) -> Synapses:
        """The same geometry with other weights."""
        return replace(self, weight=weight)

    def dense(self) -> Synapses:
        """The same synapses as single weights [n_out, n_in], which neurons of a channel do not share."""
        weight = np.zeros((self.n_out, self.n_in), self.weight.dtype)
        post, pre, values = self.connections
        weight[post, pre] = values
        return Synapses("dense", weight, self.in_shape, self.out_shape)

    def rows(self, per_row: Array) -> Array:
        """One value a row [rows] -> one value a neuron [n_out]."""
        return np.repeat(per_row, self.n_out // len(per_row))

    def apply(self, spikes: Tensor) -> Tensor:
        """Drive [N, n_out] of presynaptic activity [N, n_in], in the dtype of `spikes`."""
        weight = self._tensor(spikes)
        if self.kind == "dense":
            return F.linear(spikes, weight)
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
        images = activity.reshape(-1, *self.in_shape)
        if self.groups == 1:
            return conv2d(images, weight, None, self.stride, self.padding, self.dilation)
        return F.conv2d(images, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _tensor(self, model: Tensor) -> Tensor:
        return torch.from_numpy(self.weight).to(model)

    @cached_property
    def most(self) -> int:
        """The largest sum of |weights| that one output neuron can receive, for whole numbers."""
        return int(np.abs(self.weight).reshape(len(self.weight), -1).sum(1).max())

    @cached_property
    def connections(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Every non-zero synapse as (postsynaptic index, presynaptic index, weight)."""
        if self.kind == "dense":
            post, pre = np.nonzero(self.weight)
            return post, pre, self.weight[post, pre]
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

    @cached_property
    def fan_out(self) -> NDArray[np.int64]:
        """Non-zero synapses that leave each presynaptic neuron [n_in]."""
        return np.bincount(self.connections[1], minlength=self.n_in)

    def operations(self, spikes: Tensor) -> float:
        """Synaptic operations that presynaptic activity [..., n_in] causes: one a spike and non-zero synapse."""
        per_neuron = spikes.reshape(-1, self.n_in).sum(0, dtype=torch.float64)
        return float(per_neuron @ torch.from_numpy(self.fan_out).double())
