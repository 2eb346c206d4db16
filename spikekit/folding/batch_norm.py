"""Batch normalisation in the weights of the layer in front of it, in float64: what `sk.fold` and the export share."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from spikekit.norm.tdbn import scale_of

Linear = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Norm = nn.modules.batchnorm._BatchNorm


def normalised(layer: Linear, norm: Norm) -> Linear:
    """A copy of `layer` in float64 that gives what `norm`, of torch or a TDBN, in eval mode makes of its output.

    norm: with running statistics, of as many features as `layer` has rows.
    """
    # To fold in float32 would round the weights a second time.
    exact, exact_norm = deepcopy(layer).double().eval(), deepcopy(norm).double().eval()
    # torch's fusion of linear layers needs both, and the factor of a TDBN belongs to both.
    ones = torch.ones_like(exact_norm.running_mean)  # type: ignore[arg-type]
    weight = ones if exact_norm.weight is None else exact_norm.weight.detach()
    bias = 0 * ones if exact_norm.bias is None else exact_norm.bias.detach()
    exact_norm.weight, exact_norm.bias = nn.Parameter(scale_of(norm) * weight), nn.Parameter(scale_of(norm) * bias)
    if isinstance(exact, nn.Linear):
        return fuse_linear_bn_eval(exact, exact_norm)
    return fuse_conv_bn_eval(exact, exact_norm)
