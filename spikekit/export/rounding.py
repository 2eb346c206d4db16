"""From floats to the integers of one layer, once its scales are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spikekit.export.integer_layer import (
    BIAS_EXPONENT_MAX,
    BIAS_MANTISSA_MAX,
    DECAY_ONE,
    IntegerLayer,
    Integers,
)
from spikekit.export.signal import Floats
from spikekit.ops.integer import STATE_MAX


def filled(frame: IntegerLayer, weights: Sequence[Floats], bias: Floats, least_bias_exponent: int = 0) -> IntegerLayer:
    """The layer `frame` with float weights, one array an input, and biases [n] as integers; what is beyond clips."""
    step, inputs = frame.weight_step, []
    for projection, weight in zip(frame.inputs, weights, strict=True):
        scale = projection.synapses.per_weight(frame.row_scale(projection))
        steps = np.clip(np.rint(weight * (scale / step)), 1 - 256 // step, 256 // step - 1)
        inputs.append(replace(projection, synapses=projection.synapses.with_weight((step * steps).astype(np.int32))))
    if frame.graded:
        mantissa = np.clip(np.rint(bias * frame.unit), -STATE_MAX, STATE_MAX).astype(np.int64)
        exponent = np.zeros_like(mantissa)
    else:
        mantissa, exponent = _mantissa(bias * frame.unit, least_bias_exponent)
    return replace(frame, inputs=tuple(inputs), bias_mantissa=mantissa, bias_exponent=exponent)


def decay_parts(keep: Floats) -> Integers:
    """What a membrane loses in a step, in parts of 4,096."""
    # 4,096 would be a decay of 0 and needs a 13th bit; 4,095 leaves less than one part in 4,096 of the old state.
    return np.minimum(np.rint((1 - keep) * DECAY_ONE).astype(np.int64), DECAY_ONE - 1)


def current_decay_parts(keep: Floats) -> Integers:
    """The same of a synaptic current."""
    # Lava removes one part in 4,096 more from a current than it is told to.
    return np.clip(DECAY_ONE - 1 - np.rint(keep * DECAY_ONE).astype(np.int64), 0, DECAY_ONE - 1)


def _mantissa(bias: Floats, least: int) -> tuple[Integers, Integers]:
    """The bias as mantissa·2^exponent with the smallest exponent, from `least` on, that fits."""
    exponent = np.ceil(np.log2(np.maximum(np.abs(bias) / BIAS_MANTISSA_MAX, 2.0**least))).astype(np.int64)
    mantissa = np.rint(bias / 2.0**exponent).astype(np.int64)
    return np.clip(mantissa, -BIAS_MANTISSA_MAX, BIAS_MANTISSA_MAX), np.minimum(exponent, BIAS_EXPONENT_MAX)
