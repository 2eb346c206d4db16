"""From the float plan to Loihi-style integers: 8-bit weights with a scale a row, 24-bit states, integer thresholds.

In an integer layer the float number 1.0 is  scale · 2^exponent · 64  units of membrane:

    weight    = 2·round(w·scale / 2)            even, in [-254, 254]: Lava drops the lowest bit of mixed-sign matrices
    threshold = round(θ·scale·2^exponent)       at most 131,071; the neuron compares with threshold·64
    bias      = mantissa·2^bias_exponent        mantissa in ±4,095, exponent in 0..7
    decay     = round((1 - beta)·4,096)         the membrane loses decay/4,096 a step, rounded towards zero
    quantum   = round(q·scale·2^exponent·64)    threshold·64 when soft reset subtracts the threshold

Scaling a neuron's weights, bias, threshold and quantum together changes no spike, so each row (output neuron or output
channel) takes the scale that fills its 8 bits. The exponent is the largest that keeps the states of the calibration
data, with headroom, inside 24 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikekit.errors import ExportError
from spikekit.export.float_run import LayerTrace
from spikekit.export.plan import FloatLayer, Floats
from spikekit.export.synapses import Synapses

Integers = NDArray[np.int64]

WEIGHT_MAX = 254
STATE_MAX = 2**23 - 1
THRESHOLD_MAX = 2**17 - 1
BIAS_MANTISSA_MAX = 2**12 - 1
BIAS_EXPONENT_MAX = 7
EXPONENT_MAX = 7
DECAY_ONE = 4096
STATE_SHIFT = 6


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer of a `LoihiNet`. Arrays hold one int64 a neuron [n]; `scale` (float64) gives each neuron's unit."""

    name: str
    synapses: Synapses
    exponent: int
    scale: Floats
    bias_mantissa: Integers
    bias_exponent: Integers
    decay: Integers
    threshold: Integers
    quantum: Integers
    reset: str
    inclusive: bool
    fires: bool

    @property
    def bias(self) -> Integers:
        """Bias in units of membrane."""
        return self.bias_mantissa << self.bias_exponent

    @property
    def unit(self) -> Floats:
        """Units of membrane that stand for the float number 1.0 [n]."""
        return self.scale * 2.0 ** (self.exponent + STATE_SHIFT)


def quantise(
    layers: Sequence[FloatLayer], traces: Sequence[LayerTrace], *, headroom: float = 2.0
) -> tuple[IntegerLayer, ...]:
    """Integer layers of a float plan.

    traces: what the plan did on calibration data, for the size of its states. headroom: how many times larger than on
    the calibration data a state may become before it saturates. Raises ExportError naming the layer and the neuron.
    """
    return tuple(_quantise(layer, trace, headroom) for layer, trace in zip(layers, traces, strict=True))


def _quantise(layer: FloatLayer, trace: LayerTrace, headroom: float) -> IntegerLayer:
    synapses = layer.synapses
    weight = np.asarray(synapses.weight, np.float64)
    n_rows = len(weight)
    per_row = (n_rows, -1)
    largest = np.abs(weight).reshape(per_row).max(1)
    state = np.maximum(trace.membranes.abs().amax((0, 1)).numpy(), trace.peak_drive.numpy())
    # A quantum below 0 is added to a membrane that is above its threshold already.
    state = (state + np.maximum(-layer.quantum, 0)) * headroom
    # Each limit as the largest number of units per 1.0 that it allows, for the neediest neuron of each row.
    with np.errstate(divide="ignore"):
        limits = np.minimum.reduce(
            [
                _row_limit(STATE_MAX, np.maximum(state, np.abs(layer.bias)), per_row),
                _row_limit(STATE_MAX, np.abs(layer.quantum), per_row),
                _row_limit(BIAS_MANTISSA_MAX << BIAS_EXPONENT_MAX, np.abs(layer.bias), per_row),
                _row_limit(THRESHOLD_MAX << STATE_SHIFT, layer.threshold, per_row),
            ]
        )
        fills = np.where(largest > 0, WEIGHT_MAX / largest, np.inf)
    # A row without weights has only its bias and threshold to represent: any scale does, so the largest allowed one.
    row_scale = np.minimum(fills, limits / 2**STATE_SHIFT)
    room = limits / (row_scale * 2**STATE_SHIFT)
    exponent = int(np.clip(np.floor(np.log2(room.min())), 0, EXPONENT_MAX))
    scale = synapses.rows(row_scale)
    unit = scale * 2.0 ** (exponent + STATE_SHIFT)

    rounded = 2 * np.rint(weight * row_scale.reshape(-1, *[1] * (weight.ndim - 1)) / 2)
    threshold = np.rint(layer.threshold * unit / 2**STATE_SHIFT).astype(np.int64)
    if layer.fires and (lost := np.flatnonzero(threshold < 1)).size:
        raise ExportError(
            f"layer {layer.name}: the threshold {layer.threshold[lost[0]]:.3g} of neuron {lost[0]} is below half a "
            f"unit of its 8-bit weights (largest weight {largest.max():.3g}). Raise the threshold or limit the weights."
        )
    quantum = np.where(
        layer.quantum == layer.threshold,
        threshold << STATE_SHIFT,
        np.rint(layer.quantum * unit).astype(np.int64),
    )
    mantissa, bias_exponent = _mantissa(layer.bias * unit)
    return IntegerLayer(
        layer.name,
        synapses.with_weight(rounded.astype(np.int32)),
        exponent,
        scale,
        mantissa,
        bias_exponent,
        # 4,096 would be beta = 0 and needs a 13th bit; 4,095 leaves less than one part in 4,096 of the old membrane.
        np.minimum(np.rint((1 - layer.beta) * DECAY_ONE).astype(np.int64), DECAY_ONE - 1),
        threshold,
        quantum,
        layer.reset,
        layer.inclusive,
        layer.fires,
    )


def _row_limit(most: int, size: Floats, per_row: tuple[int, int]) -> Floats:
    limit: Floats = (most / size).reshape(per_row).min(1)
    return limit


def _mantissa(bias: Floats) -> tuple[Integers, Integers]:
    """The bias as mantissa·2^exponent with the smallest exponent that fits."""
    exponent = np.ceil(np.log2(np.maximum(np.abs(bias) / BIAS_MANTISSA_MAX, 1))).astype(np.int64)
    mantissa = np.rint(bias / 2.0**exponent).astype(np.int64)
    return np.clip(mantissa, -BIAS_MANTISSA_MAX, BIAS_MANTISSA_MAX), np.minimum(exponent, BIAS_EXPONENT_MAX)
