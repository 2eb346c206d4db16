"""Residual networks of spiking neurons: the ResNet-20 and ResNet-19 of Guo et al.

Model card. Input: images or event frames [T, B, C, H, W] of any size. Output: logits [T, B, classes], one set a step;
their mean over time is the score, which `spikekit.train.CrossEntropy` takes. Source: "Reducing information loss for
spiking neural networks", ECCV 2022, arXiv 2307.04356, and "Membrane potential batch normalization for spiking neural
networks", ICCV 2023, arXiv 2308.08359, after the authors' public code. A block is conv, norm, spikes, conv, norm, the
shortcut added, then spikes. Accuracies: none of ours yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.keys import choose
from spikekit.models.neuron import Factory, neuron_factory
from spikekit.neurons import LI, Neuron
from spikekit.norm import TDBN2d
from spikekit.sequential import Sequential

NORMS = ("bn", "tdbn")


class ResidualBlock(nn.Module):
    """`neuron(branch(x) + shortcut(x))` on [T, B, C, H, W]: spikes in, spikes out."""

    temporal: ClassVar[bool] = True

    def __init__(self, branch: Sequential, shortcut: Sequential | nn.Identity, neuron: Neuron) -> None:
        super().__init__()
        self.branch, self.shortcut, self.neuron = branch, shortcut, neuron

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C, H, W] -> spikes [T, B, C', H', W']."""
        return self.neuron(self.branch(x) + self.shortcut(x))


def resnet20(
    in_channels: int = 3,
    classes: int = 10,
    width: float = 1.0,
    norm: str = "tdbn",
    neuron: Mapping[str, Any] | Factory | None = None,
    readout: float | None = None,
) -> Sequential:
    """Three 3×3 convolutions of 64 channels, average pooling, then 2 blocks each of 64, 128, 256 and 512, 18 in all.

    A shortcut that halves the image pools it and projects it by a 1×1 convolution. width: factor of all numbers of
    channels. norm: of the blocks, "tdbn" (as with InfLoR-SNN) or "bn" (as with MPBN); the stem has batch normalisation.
    neuron: see `neuron_factory`. readout: beta of an LI that sums up the logits, as a network needs it that goes to a
    chip; None: none. CIFAR10-DVS and N-MNIST: in_channels=2.
    """
    make = neuron_factory(neuron)
    choose(norm, NORMS, "resnet20: norm")
    first = scaled(64, width)
    layers: list[nn.Module] = []
    for channels in (in_channels, first, first):
        layers += [_conv(channels, first), nn.BatchNorm2d(first), make(first)]
    layers.append(nn.AvgPool2d(2))
    layers += _stages((2, 2, 2, 2), [scaled(c, width) for c in (64, 128, 256, 512)], first, norm, make, pooled=True)
    return _finish(layers, scaled(512, width), classes, readout)


def resnet19(
    in_channels: int = 3,
    classes: int = 10,
    width: float = 1.0,
    norm: str = "tdbn",
    neuron: Mapping[str, Any] | Factory | None = None,
    readout: float | None = None,
) -> Sequential:
    """One 3×3 convolution of 128 channels, then 3, 3 and 2 blocks of 128, 256 and 512.

    A shortcut that halves the image is a strided 1×1 convolution. Arguments as in `resnet20`.
    """
    make = neuron_factory(neuron)
    choose(norm, NORMS, "resnet19: norm")
    first = scaled(128, width)
    layers: list[nn.Module] = [_conv(in_channels, first), nn.BatchNorm2d(first), make(first)]
    layers += _stages((3, 3, 2), [scaled(c, width) for c in (128, 256, 512)], first, norm, make, pooled=False)
    return _finish(layers, scaled(512, width), classes, readout)


def _stages(
    blocks: tuple[int, ...], channels: list[int], inputs: int, norm: str, make: Factory, pooled: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for stage, (count, outputs) in enumerate(zip(blocks, channels, strict=True)):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(_block(inputs, outputs, stride, norm, make, pooled))
            inputs = outputs
    return layers


def _block(inputs: int, outputs: int, stride: int, norm: str, make: Factory, pooled: bool) -> ResidualBlock:
    projects = stride != 1 or inputs != outputs
    # Two branches are summed, so each brings half of the variance.
    last = 1 / math.sqrt(2) if projects else 1.0
    branch = Sequential(
        _conv(inputs, outputs, stride),
        batch_norm(norm, outputs),
        make(outputs),
        _conv(outputs, outputs),
        batch_norm(norm, outputs, last),
    )
    shortcut: Sequential | nn.Identity = nn.Identity()
    if projects and pooled:
        # An odd side is rounded up, as the strided convolution of the branch does.
        pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        shortcut = Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), batch_norm(norm, outputs, last))
    elif projects:
        shortcut = Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), batch_norm(norm, outputs, last))
    return ResidualBlock(branch, shortcut, make(outputs))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def batch_norm(kind: str, channels: int, alpha: float = 1.0) -> nn.Module:
    """Batch normalisation of images, of a kind in `NORMS`."""
    return TDBN2d(channels, threshold=0.5, alpha=alpha) if kind == "tdbn" else nn.BatchNorm2d(channels)


def _finish(layers: list[nn.Module], features: int, classes: int, readout: float | None) -> Sequential:
    last = [] if readout is None else [LI(readout)]
    net = Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes), *last)
    initialise(net, 1 / features)
    return net


def initialise(net: nn.Module, linear_std: float) -> None:
    """The authors' start: normal, sqrt(2 / (k²·outputs)) for weights of convolutions, `linear_std` for linear ones."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, linear_std)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def scaled(channels: int, width: float) -> int:
    """The number of channels of a network that is `width` times as wide."""
    if not (isinstance(width, int | float) and 0 < width < math.inf):
        raise InputError(f"width must be a number greater than 0, got {width!r}")
    return max(1, round(channels * width))
