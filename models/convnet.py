"""A small convolutional network for event frames: two strided convolutions and one hidden layer, all soft reset.

Model card. Input: event frames [T, B, 2, 34, 34], binary. Output: readout membranes [T, B, classes].
Strides instead of pooling and BatchNorm behind every layer of weights: everything folds and exports exactly.
Trained on N-MNIST's first 1,000 recordings it is the network of `make demo`; accuracy in README.md.
"""

from __future__ import annotations

from math import prod

from torch import nn

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
