"""One layer of a `LoihiNet`: what a chip is given of it, in integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikekit.export.astrocyte import IntegerAstrocyte
from spikekit.export.signal import Floats
from spikekit.export.synapses import Projection
from spikekit.ops.integer import STATE_SHIFT

Integers = NDArray[np.int64]

WEIGHT_BITS = range(4, 9)
THRESHOLD_MAX = 2**17 - 1
BIAS_MANTISSA_MAX = 2**12 - 1
BIAS_EXPONENT_MAX = 7
EXPONENT_MAX = 7
DECAY_ONE = 4096
NETX_BIAS_EXPONENT = 6


def hears_spikes(inputs: Sequence[Projection]) -> bool:
    """Whether no input is of sigma-delta neurons."""
    return all(each.grain is None for each in inputs)


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer of a `LoihiNet`. Arrays hold one int64 a neuron [n]; `scale` (float64) gives each neuron's unit.

    exponent: of the weights of inputs of shift 0. current_decay: as decay, of the synaptic current, which then holds
    the bias too; None without one. Lava removes one part in 4,096 more of a current than it says. adapt_decay,
    adapt_step: of an adaptive threshold, in parts of 4,096 and in units of membrane; None without one. period:
    refractory steps after a spike. activation: of neurons that send numbers, whose threshold, where they have one, and
    bias are in units of their state; None for others. message_shift: their messages are in units of 2^message_shift of
    that state. message_bits: of a message, its sign included. astrocyte: what modulates the neurons, None without one;
    senses: the presynaptic spikes that it counts, onto its domains.
    """

    name: str
    inputs: tuple[Projection, ...]
    exponent: int
    scale: Floats
    bias_mantissa: Integers
    bias_exponent: Integers
    current_decay: Integers | None
    decay: Integers
    threshold: Integers
    quantum: Integers
    reset: str
    inclusive: bool
    fires: bool
    weight_bits: int = 8
    adapt_decay: Integers | None = None
    adapt_step: Integers | None = None
    period: int = 0
    activation: str | None = None
    message_shift: Integers | None = None
    message_bits: int | None = None
    astrocyte: IntegerAstrocyte | None = None
    senses: tuple[Projection, ...] = ()

    @property
    def graded(self) -> bool:
        """Whether it sends numbers in place of spikes."""
        return self.activation is not None

    @property
    def largest(self) -> int:
        """The largest number that a neuron sends."""
        return 1 if self.message_bits is None else 2 ** (self.message_bits - 1) - 1

    @property
    def grain(self) -> int | None:
        """A message of 1.0 is the number 2^grain; None for spikes."""
        return None if self.message_shift is None else int(np.log2(self.unit[0])) - int(self.message_shift[0])

    @property
    def weight_step(self) -> int:
        """What every weight is a multiple of."""
        return 2 ** (9 - self.weight_bits)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its neurons."""
        return self.inputs[0].synapses.out_shape

    def row_scale(self, projection: Projection) -> Floats:
        """What each row of an input's weights was multiplied by [rows]."""
        scale: Floats = self.scale[:: len(self.scale) // projection.synapses.rows]
        return scale * 2.0 ** -(projection.shift + (projection.grain or 0))

    @property
    def bias(self) -> Integers:
        """Bias in units of membrane."""
        return self.bias_mantissa << self.bias_exponent

    @property
    def state_shift(self) -> int:
        """Bits by which what arrives, and the threshold, are shifted into units of membrane.

        A readout that hears numbers has no threshold to share them with, and needs the bits for what it hears.
        """
        return 0 if self.graded or not (self.fires or hears_spikes(self.inputs)) else STATE_SHIFT

    @property
    def level(self) -> Integers:
        """Threshold in units of membrane."""
        return self.threshold << self.state_shift

    @property
    def unit(self) -> Floats:
        """Units of membrane that stand for the float number 1.0 [n]."""
        return self.scale * 2.0 ** (self.exponent + self.state_shift)
