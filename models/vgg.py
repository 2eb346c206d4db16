"""VGG-16 of spiking neurons with average pooling.

Model card. Input: images [T, B, C, H, W], sides of 32 or more. Output: logits [T, B, classes], one set a step. Source:
Simonyan and Zisserman 2015, in the form of Guo et al. 2022, arXiv 2307.04356: average for maximum pooling, batch
normalisation behind every convolution, one linear layer. Accuracies: none of ours yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from spikekit.keys import choose
from spikekit.models.neuron import Factory, neuron_factory
from spikekit.models.resnet import NORMS, batch_norm, initialise, scaled
from spikekit.sequential import Sequential

_POOL = 0
_PLAN = (64, 64, _POOL, 128, 128, _POOL, 256, 256, 256, _POOL, 512, 512, 512, _POOL, 512, 512, 512, _POOL)


def vgg16(
    in_channels: int = 3,
    classes: int = 10,
    width: float = 1.0,
    norm: str = "bn",
    neuron: Mapping[str, Any] | Factory | None = None,
) -> Sequential:
    """Thirteen 3×3 convolutions in five groups, average pooling behind each group, one linear layer.

    width, norm, neuron: as in `resnet20`.
    """
    make = neuron_factory(neuron)
    choose(norm, NORMS, "vgg16: norm")
    layers: list[nn.Module] = []
    for item in _PLAN:
        if item == _POOL:
            layers.append(nn.AvgPool2d(2))
            continue
        channels = scaled(item, width)
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), batch_norm(norm, channels), make(channels)]
        in_channels = channels
    net = Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, classes))
    initialise(net, 0.01)
    return net
