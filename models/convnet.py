"""Small convolutional networks: `event_conv` for event frames, all soft reset; `convnet` for any images and neurons.

Model card. Input: frames [T, B, C, H, W]; those of `event_conv` are binary, [T, B, 2, 34, 34] unless it is told
otherwise. Output: readout membranes [T, B, classes]. Strides instead of pooling and BatchNorm behind every layer of
weights: everything folds and exports exactly. Trained on N-MNIST's first 1,000 recordings `event_conv` is the network
of `make demo`; with the recipe `fashion_conv` a `convnet` reaches 92.9 % on Fashion-MNIST's test images. See README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import nn

from spikekit.errors import InputError
from spikekit.models.neuron import Factory, neuron_factory
from spikekit.neurons import LI, LIF
from spikekit.sequential import Sequential


def event_conv(
    in_shape: tuple[int, int, int] = (2, 34, 34),
    classes: int = 10,
    channels: tuple[int, int] = (16, 32),
    hidden: int = 128,
    beta: float = 0.9,
    reset: str = "soft",
    dropout: float = 0.3,
) -> Sequential:
    """Conv 5×5/2, conv 3×3/2, dense, readout; BatchNorm and LIF after each of the first three.

    in_shape: (channels, height, width) of a frame. beta, reset: of the LIF layers; the readout has beta 0.95.
    """
    first, second = channels
    size = (-(-side // 2) for side in in_shape[1:])
    flat = second * prod(-(-side // 2) for side in size)
    return Sequential(
        nn.Conv2d(in_shape[0], first, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(first),
        LIF(beta, reset=reset),
        nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(second),
        LIF(beta, reset=reset),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(flat, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        LIF(beta, reset=reset),
        nn.Linear(hidden, classes),
        LI(0.95),
    )


def convnet(
    in_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    channels: Sequence[int] = (32, 64),
    strides: Sequence[int] = (2, 2),
    hidden: int = 128,
    dropout: float = 0.0,
    neuron: Mapping[str, Any] | Factory | None = None,
) -> Sequential:
    """Convolutions of 3×3, one for each number in `channels`, a hidden layer, a readout of logits [T, B, classes].

    in_shape: (channels, height, width) of an image. strides: one a convolution; there is no pooling. BatchNorm and
    neurons stand behind every layer of weights but the last, which an `LI(0)` follows: its membrane is its drive, and
    the network exports. neuron: see `neuron_factory`.
    """
    if len(channels) != len(strides) or not channels:
        raise InputError(f"convnet: channels and strides must be as many, got {channels} and {strides}")
    make = neuron_factory(neuron)
    inputs, *size = in_shape
    layers: list[nn.Module] = []
    for outputs, stride in zip(channels, strides, strict=True):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), make(outputs)]
        inputs, size = outputs, [-(-side // stride) for side in size]
    layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs * prod(size), hidden, bias=False)]
    layers += [nn.BatchNorm1d(hidden), make(hidden)]
    return Sequential(*layers, nn.Linear(hidden, classes), LI(0.0))
