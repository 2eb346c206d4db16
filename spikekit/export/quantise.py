"""From the float plan to Loihi-style integers: 4- to 8-bit weights with a scale a row, 24-bit states, thresholds.

In an integer layer the float number 1.0 is  scale · 2^exponent · 64  units of membrane:

    weight    = step·round(w·scale / step)      within ±(256 - step), where step = 2^(9 - bits): Lava keeps weights of
                                                fewer bits as multiples, and drops one more bit where signs are mixed
    threshold = round(θ·scale·2^exponent)       within ±131,071; the neuron compares with threshold·64
    bias      = mantissa·2^bias_exponent        mantissa in ±4,095, exponent in 0..7
    decay     = round((1 - beta)·4,096)         the membrane loses decay/4,096 a step, rounded towards zero
    quantum   = round(q·scale·2^exponent·64)    threshold·64 when soft reset subtracts the threshold

Scaling a neuron's weights, bias, threshold and quantum together changes no spike, so each row (output neuron or output
channel) takes the scale that fills its bits, or a smaller one that brings its threshold to one that others have
(`levels.py`). The exponent is the largest that keeps the states of the calibration data, with headroom, inside 24 bits.

A layer of several inputs has one scale a row for all of them. Where the weights of one are much larger, as those of an
identity shortcut beside a convolution, they are divided by 2^shift, and their exponent is higher by so much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikekit.errors import ExportError, InputError
from spikekit.export.float_run import LayerTrace
from spikekit.export.levels import most_thresholds, nearest_level, share_levels
from spikekit.export.plan import FloatLayer
from spikekit.export.signal import Floats
from spikekit.export.synapses import Projection
from spikekit.ops.integer import STATE_MAX, STATE_SHIFT

Integers = NDArray[np.int64]

WEIGHT_BITS = range(4, 9)
# Parts of its largest weight that a row may be cut to, tried from the largest: where it ends is where it errs least.
_CUTS = np.arange(1.0, 0.39, -0.05)
THRESHOLD_MAX = 2**17 - 1
BIAS_MANTISSA_MAX = 2**12 - 1
BIAS_EXPONENT_MAX = 7
EXPONENT_MAX = 7
DECAY_ONE = 4096
NETX_BIAS_EXPONENT = 6


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer of a `LoihiNet`. Arrays hold one int64 a neuron [n]; `scale` (float64) gives each neuron's unit.

    exponent: of the weights of inputs of shift 0. current_decay: as decay, of the synaptic current, which then holds
    the bias too; None without one. Lava removes one part in 4,096 more of a current than it says. adapt_decay,
    adapt_step: of an adaptive threshold, in parts of 4,096 and in units of membrane; None without one. period:
    refractory steps after a spike.
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
        scale: Floats = self.scale[:: len(self.scale) // projection.synapses.rows] * 2.0**-projection.shift
        return scale

    @property
    def bias(self) -> Integers:
        """Bias in units of membrane."""
        return self.bias_mantissa << self.bias_exponent

    @property
    def unit(self) -> Floats:
        """Units of membrane that stand for the float number 1.0 [n]."""
        return self.scale * 2.0 ** (self.exponent + STATE_SHIFT)


def quantise(
    layers: Sequence[FloatLayer],
    traces: Sequence[LayerTrace],
    *,
    headroom: float = 2.0,
    weight_bits: int = 8,
    thresholds: str = "neuron",
    cut: bool | None = None,
    netx: bool = False,
) -> tuple[IntegerLayer, ...]:
    """Integer layers of a float plan.

    traces: what the plan did on calibration data, for the size of its states. headroom: how many times larger than on
    the calibration data a state may become before it saturates. weight_bits: 4 to 8. thresholds: "neuron", "group" or
    "layer". cut: let the largest weights of a row be clipped where that makes its rounding error smaller; None: below 8
    bits. netx: leave out what lava-dl's files have no place for, exponents of weights and of single biases. Raises
    ExportError naming the layer and the neuron, InputError for settings that are none.
    """
    most = most_thresholds(thresholds)
    if not isinstance(weight_bits, int) or isinstance(weight_bits, bool) or weight_bits not in WEIGHT_BITS:
        raise InputError(f"to_loihi: weight_bits must be a whole number from 4 to 8, got {weight_bits!r}")
    cut = weight_bits < 8 if cut is None else cut
    return tuple(
        _quantise(layer, trace, headroom, int(weight_bits), most if layer.fires else None, cut, netx)
        for layer, trace in zip(layers, traces, strict=True)
    )


def _quantise(
    layer: FloatLayer, trace: LayerTrace, headroom: float, bits: int, most: int | None, cut: bool, netx: bool
) -> IntegerLayer:
    per_row = (layer.rows, -1)
    bias_exponent = NETX_BIAS_EXPONENT if netx else BIAS_EXPONENT_MAX
    state = np.maximum(trace.membranes.abs().amax((0, 1)).cpu().numpy(), trace.peak_drive.cpu().numpy())
    # A quantum below 0 is added to a membrane that is above its threshold already.
    state = (state + np.maximum(-layer.quantum, 0)) * headroom
    # Each limit as the largest number of units per 1.0 that it allows, for the neediest neuron of each row.
    with np.errstate(divide="ignore"):
        limits = np.minimum.reduce(
            [
                _row_limit(STATE_MAX, np.maximum(state, np.abs(layer.bias)), per_row),
                _row_limit(STATE_MAX, np.abs(layer.quantum), per_row),
                _row_limit(BIAS_MANTISSA_MAX << bias_exponent, np.abs(layer.bias), per_row),
                _row_limit(THRESHOLD_MAX << STATE_SHIFT, np.abs(layer.threshold), per_row),
            ]
        )
    fillings = [
        _filling(np.asarray(each.synapses.by_row(), np.float64), 2 ** (9 - bits), cut).reshape(per_row).min(1)
        for each in layer.inputs
    ]
    shifts = _shifts(fillings)
    filling = np.minimum.reduce([fill * 2.0**shift for fill, shift in zip(fillings, shifts, strict=True)])
    # A row without weights has only its bias and threshold to represent: any scale does, so the largest allowed one.
    row_scale = np.minimum(filling, limits / 2**STATE_SHIFT)
    levels = None
    if most is not None:
        if layer.fires and (low := np.flatnonzero(layer.threshold <= 0)).size:
            raise ExportError(
                f"layer {layer.name}: neuron {low[0]} fires from rest, at {layer.threshold[low[0]]:.3g}, one of "
                f"{low.size}, and thresholds that rows share are above 0. Export with thresholds='neuron'."
            )
        # The neurons of a channel may differ, and share its scale: the level is that of their middle.
        wanted = np.exp(np.log(layer.threshold).reshape(per_row).mean(1)) * row_scale
        levels = share_levels(wanted, most)
        row_scale = row_scale * levels / wanted
    room = limits / (row_scale * 2**STATE_SHIFT)
    exponent = int(np.clip(np.floor(np.log2(room.min())), 0, 0 if netx else EXPONENT_MAX - max(shifts)))
    scale = np.repeat(row_scale, len(layer.bias) // len(row_scale))
    unit = scale * 2.0 ** (exponent + STATE_SHIFT)

    threshold = layer.threshold * unit / 2**STATE_SHIFT
    if levels is not None:
        threshold = nearest_level(threshold, levels * 2.0**exponent)
    whole = np.rint(threshold).astype(np.int64)
    # Below half a unit, a threshold above 0 would let its neuron fire from rest.
    if layer.fires and (lost := np.flatnonzero((whole < 1) & (layer.threshold > 0))).size:
        largest = max(np.abs(each.synapses.weight).max(initial=0) for each in layer.inputs)
        raise ExportError(
            f"layer {layer.name}: the threshold {layer.threshold[lost[0]]:.3g} of neuron {lost[0]} is below half a "
            f"unit of its {bits}-bit weights (largest weight {largest:.3g}). "
            "Raise the threshold or limit the weights."
        )
    quantum = np.where(
        layer.quantum == layer.threshold,
        whole << STATE_SHIFT,
        np.rint(layer.quantum * unit).astype(np.int64),
    )
    nothing = np.zeros_like(whole)
    frame = IntegerLayer(
        layer.name,
        tuple(replace(each, shift=shift) for each, shift in zip(layer.inputs, shifts, strict=True)),
        exponent, scale, nothing, nothing, None if layer.alpha is None else _current_decay(layer.alpha),
        _decay(layer.beta), whole, quantum, layer.reset, layer.inclusive, layer.fires, bits,
        None if layer.rho is None else _decay(layer.rho),
        None if layer.step is None else np.rint(layer.step * unit).astype(np.int64),
        layer.period,
    )  # fmt: skip
    return filled(frame, [each.synapses.weight for each in layer.inputs], layer.bias, bias_exponent if netx else 0)


def filled(frame: IntegerLayer, weights: Sequence[Floats], bias: Floats, least_bias_exponent: int = 0) -> IntegerLayer:
    """The layer `frame` with float weights, one array an input, and biases [n] as integers; what is beyond clips."""
    step, inputs = frame.weight_step, []
    for projection, weight in zip(frame.inputs, weights, strict=True):
        scale = projection.synapses.per_weight(frame.row_scale(projection))
        steps = np.clip(np.rint(weight * (scale / step)), 1 - 256 // step, 256 // step - 1)
        inputs.append(replace(projection, synapses=projection.synapses.with_weight((step * steps).astype(np.int32))))
    mantissa, exponent = _mantissa(bias * frame.unit, least_bias_exponent)
    return replace(frame, inputs=tuple(inputs), bias_mantissa=mantissa, bias_exponent=exponent)


def _decay(keep: Floats) -> Integers:
    # 4,096 would be a decay of 0 and needs a 13th bit; 4,095 leaves less than one part in 4,096 of the old state.
    return np.minimum(np.rint((1 - keep) * DECAY_ONE).astype(np.int64), DECAY_ONE - 1)


def _current_decay(keep: Floats) -> Integers:
    # Lava removes one part in 4,096 more from a current than it is told to.
    return np.clip(DECAY_ONE - 1 - np.rint(keep * DECAY_ONE).astype(np.int64), 0, DECAY_ONE - 1)


def _shifts(fillings: Sequence[Floats]) -> list[int]:
    """The shift of each input: by how many bits its weights are the larger ones, in the middle of its rows."""
    sizes = [np.log2(fill[np.isfinite(fill)]) for fill in fillings]
    middles = [float(np.median(size)) if len(size) else None for size in sizes]
    finest = max((middle for middle in middles if middle is not None), default=0.0)
    return [0 if middle is None else min(round(finest - middle), EXPONENT_MAX) for middle in middles]


def _filling(weight: Floats, step: int, cut: bool) -> Floats:
    """The scale of each row of weights [rows, k] that fills the bits: infinite for a row of zeros."""
    top = 256 - step
    with np.errstate(divide="ignore"):
        scale: Floats = top / np.abs(weight).max(1)
    if not cut:
        return scale
    best, least = scale, np.full(len(weight), np.inf)
    for part in _CUTS:
        trial = np.where(np.isinf(scale), 1.0, scale / part)[:, None]
        steps = np.clip(np.rint(weight * trial / step), -top // step, top // step)
        error = ((step * steps / trial - weight) ** 2).sum(1)
        best = np.where(error < least, scale / part, best)
        least = np.minimum(error, least)
    return best


def _row_limit(most: int, size: Floats, per_row: tuple[int, int]) -> Floats:
    limit: Floats = (most / size).reshape(per_row).min(1)
    return limit


def _mantissa(bias: Floats, least: int) -> tuple[Integers, Integers]:
    """The bias as mantissa·2^exponent with the smallest exponent, from `least` on, that fits."""
    exponent = np.ceil(np.log2(np.maximum(np.abs(bias) / BIAS_MANTISSA_MAX, 2.0**least))).astype(np.int64)
    mantissa = np.rint(bias / 2.0**exponent).astype(np.int64)
    return np.clip(mantissa, -BIAS_MANTISSA_MAX, BIAS_MANTISSA_MAX), np.minimum(exponent, BIAS_EXPONENT_MAX)
