"""Synaptic operations of one layer: how often its weights meet inputs, counted from the inputs' own positions.

An input position [C, H, W] meets as many weights as leave it (its fan-out), whatever the sample: so the non-zero inputs
are summed over time and samples first, and the layer is looked at once, in float64, where sums of whole numbers are
exact.
"""

from __future__ import annotations

from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose operations can be counted."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class InputCounter:
    """What arrived at a layer, by shape of one sample and step: non-zero inputs a position, and how many there were."""

    def __init__(self) -> None:
        self.spiking = True
        self.active: dict[tuple[int, ...], Tensor] = {}
        self.presented: dict[tuple[int, ...], int] = {}

    def add(self, x: Tensor, axes: int) -> None:
        """Count x [..., *shape], whose last `axes` axes are one sample and step."""
        x = x.detach()
        shape = tuple(x.shape[x.ndim - axes :])
        present = x != 0
        self.spiking = self.spiking and bool((~present | (x.abs() == 1)).all())
        counts = present.reshape(-1, *shape).sum(0).double().cpu()
        self.active[shape] = self.active[shape] + counts if shape in self.active else counts
        self.presented[shape] = self.presented.get(shape, 0) + x.numel() // max(prod(shape), 1)

    @property
    def rate(self) -> float:
        """The part of the inputs that was not zero; 0 where nothing came."""
        inputs = sum(count * prod(shape) for shape, count in self.presented.items())
        return sum(float(counts.sum()) for counts in self.active.values()) / inputs if inputs else 0.0


def operations(layer: nn.Module, counter: InputCounter) -> tuple[float, float]:
    """Dense and effective operations of a layer of `COUNTED` on all that the counter saw."""
    weight = cast(Tensor, layer.weight).detach().cpu()
    dense = effective = 0.0
    for shape, counts in counter.active.items():
        dense += float(fan_out(layer, torch.ones_like(weight), shape).sum()) * counter.presented[shape]
        effective += float((fan_out(layer, weight != 0, shape) * counts).sum())
    return dense, effective


@torch.enable_grad()
def fan_out(layer: nn.Module, mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """How many weights of `mask` (0 and 1) leave each input position, float64 [*shape]."""
    mask = mask.double()
    if isinstance(layer, nn.Linear):
        return mask.sum(0).expand(shape)
    # A convolution of ones sums the weights that meet each position: that is the gradient of its sum.
    ones = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    kinds = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
    convolve = next(function for kind, function in kinds.items() if isinstance(layer, kind))
    conv = cast(Convolution, layer)
    x, padding = ones, conv.padding
    if conv.padding_mode != "zeros":
        x, padding = F.pad(ones, conv._reversed_padding_repeated_twice, mode=conv.padding_mode), (0,) * (mask.ndim - 2)
    y = convolve(x, mask, None, conv.stride, padding, conv.dilation, conv.groups)  # type: ignore[operator, arg-type]
    return torch.autograd.grad(y.sum(), ones)[0][0]
