"""A multilayer perceptron of LIF layers with a leaky-integrator readout.

Model card. Input: [T, B, ...] of any shape, flattened. Output: readout membranes [T, B, classes].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from spikekit.neurons import LI, LIF
from spikekit.sequential import Sequential


def mlp(
    features: int = 2312,
    hidden: Sequence[int] = (256,),
    classes: int = 10,
    beta: float = 0.9,
    reset: str = "soft",
) -> Sequential:
    """Features inputs, one LIF layer for each number in `hidden`, `classes` readouts with beta 0.95."""
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise((features, *hidden)):
        layers += [nn.Linear(n_in, n_out), LIF(beta, reset=reset)]
    return Sequential(*layers, nn.Linear((features, *hidden)[-1], classes), LI(0.95))
