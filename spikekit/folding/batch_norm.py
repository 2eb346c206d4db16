"""Batch normalisation in the weights of the layer in front of it, in float64: what `sk.fold` and the export share."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from spikekit.norm.tdbn import scale_of

Linear = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Norm = nn.modules.batchnorm._BatchNorm


class Affine(NamedTuple):
    """What a norm in eval mode does: factor·x + shift, both [C] in float64."""

    factor: Tensor
    shift: Tensor


@torch.no_grad()
def affine_of(norm: Norm) -> Affine:
    """The running statistics, weight and bias of `norm`, of torch or a TDBN, as one factor and one shift a channel.

    norm: with running statistics.
    """
    mean, var = (cast(Tensor, value).double() for value in (norm.running_mean, norm.running_var))
    factor = scale_of(norm) / (var + norm.eps).sqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    shift = -mean * factor
    if norm.bias is not None:
        # The factor of a TDBN belongs to both.
        shift = shift + scale_of(norm) * norm.bias.double()
    return Affine(factor, shift)


@torch.no_grad()
def normalised(layer: Linear, norm: Norm) -> Linear:
    """A copy of `layer` in float64 that gives what `norm`, of torch or a TDBN, in eval mode makes of its output.

    norm: with running statistics, of as many features as `layer` has rows.
    """
    # To fold in float32 would round the weights a second time.
    exact, (factor, shift) = deepcopy(layer).double().eval(), affine_of(norm)
    exact.weight.mul_(factor.reshape(-1, *[1] * (exact.weight.ndim - 1)))
    bias = shift if exact.bias is None else exact.bias * factor + shift
    exact.bias = nn.Parameter(bias)
    return exact
