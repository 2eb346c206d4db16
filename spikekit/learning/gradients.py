"""The gradients of linear and convolution layers, written out, for rules that put other operands into them.

With g the gradient of the output, a the presynaptic signal and B the matrix that carries errors down, a linear layer
has dW = gᵀ·a and dx = g·B; backpropagation has a = x and B = W. A convolution has the same with a's patches.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional, grad

from spikekit.errors import InputError

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers whose weight gradient is a product of an error and a presynaptic signal."""

_OF_WEIGHT = {nn.Conv1d: grad.conv1d_weight, nn.Conv2d: grad.conv2d_weight, nn.Conv3d: grad.conv3d_weight}
_CONVOLUTIONS = tuple(_OF_WEIGHT)


def samples(layer: Weighted, x: Tensor) -> Tensor:
    """X as [N, features] of a linear layer, or [N, C, ...] of a convolution."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    return x.reshape(-1, *x.shape[-layer.weight.ndim + 1 :])


def own_forward(layer: Weighted, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What the class of `layer` computes, with these operands."""
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight, bias)
    y: Tensor = layer._conv_forward(x, weight, bias)
    return y


def weight_gradient(layer: Weighted, signal: Tensor, error: Tensor) -> Tensor:
    """The gradient of the weight for presynaptic `signal`, shaped as the input was, and `error` of the output."""
    if isinstance(layer, nn.Linear):
        return error.reshape(-1, error.shape[-1]).T @ samples(layer, signal)
    signal, error = samples(layer, signal), error.reshape(-1, *error.shape[-layer.weight.ndim + 1 :])
    padding = layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        signal = functional.pad(signal, layer._reversed_padding_repeated_twice, mode=mode)
        padding = (0,) * len(layer.stride)
    of_weight = next(function for kind, function in _OF_WEIGHT.items() if isinstance(layer, kind))
    found = of_weight(signal, layer.weight.shape, error, layer.stride, padding, layer.dilation, layer.groups)
    return cast(Tensor, found)


def rows_gradient(layer: Weighted, rows: Tensor, error: Tensor) -> Tensor:
    """The same for `rows` [N, inputs of a neuron], one for each place of `error`: of a convolution, its patches.

    Fewer rows stand for repetitions of all of them, such as a still image's at every step.
    """
    if isinstance(layer, nn.Linear):
        error = error.reshape(-1, error.shape[-1])
    else:
        places = error.ndim - (layer.weight.ndim - 1)
        error = error.movedim(places, -1).reshape(-1, error.shape[places])
    if len(rows) and len(error) % len(rows) == 0 and len(error) > len(rows):
        error = error.unflatten(0, (-1, len(rows))).sum(0)
    if len(rows) != len(error) or rows[0].numel() != layer.weight[0].numel():
        raise InputError(
            f"a listener put rows of the shape {list(rows.shape)} in the place of a signal of {layer}; the shape must "
            f"be [{len(error)}, {layer.weight[0].numel()}]"
        )
    return (error.T @ rows).view_as(layer.weight)


def bias_gradient(layer: Weighted, error: Tensor) -> Tensor:
    """The gradient of the bias: the sum of the errors of a feature or channel."""
    if isinstance(layer, nn.Linear):
        return error.reshape(-1, error.shape[-1]).sum(0)
    axis = error.ndim - (layer.weight.ndim - 1)
    return error.sum([a for a in range(error.ndim) if a != axis])


def input_gradient(layer: Weighted, matrix: Tensor, x: Tensor, error: Tensor) -> Tensor:
    """The gradient of input `x`, of which only the shape matters, when errors go down through `matrix`."""
    if isinstance(layer, nn.Linear):
        return error @ matrix
    # A convolution is linear in its input, wherever that is: one pass forward, and torch transposes it.
    with torch.enable_grad():
        at = torch.zeros_like(x, dtype=matrix.dtype, requires_grad=True)
        return torch.autograd.grad(own_forward(layer, at, matrix, None), at, error)[0]
