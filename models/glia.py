"""Astrocytes between two layers: slow calcium that senses what arrives at synapses and acts on what they pass on.

Every neuron j has an astrocyte. What it senses, a_j, is a weighted sum of the presynaptic spikes; its calcium is slow,
and what it releases acts on the drive x_j of its neuron:

    c[t] = λ·c[t-1] + √(1 - λ²)·(a[t] - ā)          λ = a decay a neuron, learned; time constants from short to long
    m[t] = layer norm of c[t] over the neurons
    drive[t] = x[t]·(1 + κ·m[t] / (1 + |m[t]|)) + κ'·m[t]

The first term is a gain (astrocytes raise the release of transmitter: Perea and Araque 2007, Science 317:1083), the
second the slow inward current that astrocytic glutamate evokes (Fellin et al. 2004, Neuron 43:729). After the abstract
of Shen et al. 2023, arXiv 2312.07625; the equations are ours. ā is what is usual, a running mean over training that
is fixed afterwards: a slow signal adds up what is always there, √(2τ) times as much as what changes, and would carry
little else. The root keeps the variance of calcium the same at every time scale, and the norm what it does apart from
how much the layer fires.

Why not `sk.Astrocyte`? That one is a part of a neuron and senses means of spikes over a domain. A mean says how much a
domain fires, and not what was read: at its best it modulates, and in 20 s of training it answered no more of delayed
recall than κ = 0. Here the matrix in front gives each astrocyte a weighted sum of its own, so that calcium can hold a
symbol; and as it does not depend on what its neuron fires, it is a linear recurrence over the whole sequence, an
`sk.LI`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.neurons import LI


class Glia(nn.Module):
    """The equations above for `neurons`; with strength 0 the drive comes out as it was, bit for bit.

    timescales: shortest and longest time constant, spread over the neurons at random. strength: of κ and κ' at the
    start. The state is that of `calcium`, {"v": [B, neurons]}. Raises InputError for timescales that are not two finite
    numbers above 0, the larger one last, and for a strength that is no finite number.
    """

    temporal: ClassVar[bool] = True
    memory: ClassVar[int] = 100
    """Calls over which ā is averaged in training."""
    usual: Tensor
    seen: Tensor

    def __init__(self, neurons: int, timescales: tuple[float, float], strength: float) -> None:
        super().__init__()
        check_rising("Glia: timescales", timescales)
        check_finite("Glia: strength", strength)
        low, high = (math.log(time) for time in timescales)
        times = torch.linspace(low, high, neurons)[torch.randperm(neurons)].exp()
        self.calcium = LI(torch.exp(-1 / times), learn=("beta",))
        self.register_buffer("usual", torch.zeros(neurons))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.norm = nn.LayerNorm(neurons)
        # As a float: of a whole number torch would make whole numbers, which do not learn.
        self.gain = nn.Parameter(torch.full((neurons,), float(strength)))
        self.current = nn.Parameter(torch.full((neurons,), float(strength)))

    def forward(self, drive: Tensor, sensed: Tensor) -> Tensor:
        """Drive and what is sensed, both [T, B, neurons], to the modulated drive."""
        unusual = sensed - self.usual
        if self.training:
            # After it was used: no step is to depend on a later one.
            with torch.no_grad():
                self.seen += 1
                self.usual += (sensed.mean((0, 1)) - self.usual) / self.seen.clamp(max=self.memory)
        decay = self.calcium.beta
        level = self.norm(self.calcium(unusual * torch.sqrt(1 - decay * decay)))
        return drive * (1 + self.gain * (level / (1 + level.abs()))) + self.current * level


def check_rising(what: str, values: Any, below: float = math.inf) -> None:
    """Raise InputError naming `what` unless `values` are two rising numbers above 0 and less than `below`."""
    two = isinstance(values, (tuple, list)) and len(values) == 2 and all(map(_finite, values))
    if not (two and 0 < values[0] < values[1] < below):
        place = "above 0" if below == math.inf else f"between 0 and {below:g}"
        raise InputError(f"{what} must be two rising numbers {place}, got {values!r}")


def check_finite(what: str, value: Any) -> None:
    """Raise InputError naming `what` unless `value` is a finite number."""
    if not _finite(value):
        raise InputError(f"{what} must be a finite number, got {value!r}")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
