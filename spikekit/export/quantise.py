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
Layers that send numbers, which must have one unit for all that hear them, are in `messages.py`, astrocytes in
`astrocyte_rounding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spikekit.errors import ExportError, InputError
from spikekit.export.astrocyte_rounding import quantise_astrocyte
from spikekit.export.float_run import LayerTrace
from spikekit.export.integer_layer import WEIGHT_BITS, IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.levels import most_thresholds, nearest_level, share_levels
from spikekit.export.messages import quantise_graded, wanted_grain
from spikekit.export.rounding import current_decay_parts, decay_parts, filled
from spikekit.export.scales import Settings, exponent_of, fillings_of, limits_of, state_shift_of
from spikekit.ops.integer import STATE_SHIFT


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
        raise InputError(f"weight_bits must be a whole number from 4 to 8, got {weight_bits!r}")
    settings = Settings(headroom, int(weight_bits), most, weight_bits < 8 if cut is None else cut, netx)
    found: list[IntegerLayer] = []
    for number, (layer, trace) in enumerate(zip(layers, traces, strict=True)):
        inputs = tuple(
            replace(each, grain=found[each.source].grain if each.source >= 0 else None) for each in layer.inputs
        )
        heard, largest = replace(layer, inputs=inputs), [_largest(found, each.source) for each in inputs]
        if layer.graded:
            grain = wanted_grain(number, layers, traces, settings)
            found.append(quantise_graded(heard, trace, settings, grain, largest))
        else:
            found.append(_quantise(heard, trace, settings, largest))
    return tuple(found)


def _largest(found: Sequence[IntegerLayer], source: int) -> int:
    return found[source].largest if source >= 0 else 1


def _quantise(layer: FloatLayer, trace: LayerTrace, settings: Settings, largest: Sequence[int]) -> IntegerLayer:
    limits, (filling, shifts) = limits_of(layer, trace, settings), fillings_of(layer, settings, settings.cut)
    # A row without weights has only its bias and threshold to represent: any scale does, so the largest allowed one.
    row_scale = np.minimum(filling, limits)
    levels = None
    if settings.most is not None and layer.fires:
        if (low := np.flatnonzero(layer.threshold <= 0)).size:
            raise ExportError(
                f"layer {layer.name}: neuron {low[0]} fires from rest, at {layer.threshold[low[0]]:.3g}, one of "
                f"{low.size}, and thresholds that rows share are above 0. Export with thresholds='neuron'."
            )
        # The neurons of a channel may differ, and share its scale: the level is that of their middle.
        wanted = np.exp(np.log(layer.threshold).reshape(layer.rows, -1).mean(1)) * row_scale
        levels = share_levels(wanted, settings.most)
        row_scale = row_scale * levels / wanted
    exponent = exponent_of(layer, limits / row_scale, row_scale, shifts, largest, settings.netx)
    scale = np.repeat(row_scale, len(layer.bias) // len(row_scale))
    unit = scale * 2.0 ** (exponent + state_shift_of(layer))

    threshold = layer.threshold * unit / 2**STATE_SHIFT
    if levels is not None:
        threshold = nearest_level(threshold, levels * 2.0**exponent)
    whole = np.rint(threshold).astype(np.int64)
    # Below half a unit, a threshold above 0 would let its neuron fire from rest.
    if layer.fires and (lost := np.flatnonzero((whole < 1) & (layer.threshold > 0))).size:
        heaviest = max(np.abs(each.synapses.weight).max(initial=0) for each in layer.inputs)
        raise ExportError(
            f"layer {layer.name}: the threshold {layer.threshold[lost[0]]:.3g} of neuron {lost[0]} is below half a "
            f"unit of its {settings.bits}-bit weights (largest weight {heaviest:.3g}). "
            "Raise the threshold or limit the weights."
        )
    quantum = np.where(
        layer.quantum == layer.threshold,
        whole << STATE_SHIFT,
        np.rint(layer.quantum * unit).astype(np.int64),
    )
    nothing, own = np.zeros_like(whole), layer.astrocyte
    ones = [each.synapses.with_weight(each.synapses.weight.astype(np.int32)) for each in layer.senses]
    frame = IntegerLayer(
        layer.name,
        tuple(replace(each, shift=shift) for each, shift in zip(layer.inputs, shifts, strict=True)),
        exponent, scale, nothing, nothing, None if layer.alpha is None else current_decay_parts(layer.alpha),
        decay_parts(layer.beta), whole, quantum, layer.reset, layer.inclusive, layer.fires, settings.bits,
        None if layer.rho is None else decay_parts(layer.rho),
        None if layer.step is None else np.rint(layer.step * unit).astype(np.int64),
        layer.period,
        astrocyte=None if own is None else quantise_astrocyte(layer.name, own, len(layer.bias)),
        senses=tuple(replace(each, synapses=one) for each, one in zip(layer.senses, ones, strict=True)),
    )  # fmt: skip
    least_bias_exponent = settings.bias_exponent if settings.netx else 0
    return filled(frame, [each.synapses.weight for each in layer.inputs], layer.bias, least_bias_exponent)
