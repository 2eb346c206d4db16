"""Layers that send numbers, in integers: all that hear them must know what a 1.0 is.

They are sigma-delta neurons and those of `maximum.py`. In such a layer 1.0 is scale·2^exponent units of a state, a
power of two in every row, and 2^grain units of a message, the same power of two in the whole layer: a message is a
state, or its change, shifted right by the row's

    message_shift = log2(scale) + exponent - grain

bits. Weights behind it are rounded to w·scale·2^-grain, so that weights times messages are whole and of the receiver's
own unit. Threshold and bias are in units of the state, of 24 bits.

A finer grain rounds messages less, and leaves the weights behind it fewer bits, because the states there have 24. So it
is a quarter of the threshold, or coarser where the receiver would have to give up bits of its weights for it, but not
coarser than the threshold; except that messages never get more bits than are left for the weights. Without a threshold
it is as fine as that last rule allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spikekit.errors import ExportError
from spikekit.export.float_run import LayerTrace
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.levels import nearest_level, share_levels
from spikekit.export.rounding import filled
from spikekit.export.scales import Settings, exponent_of, fillings_of, limits_of
from spikekit.export.synapses import MAXIMUM

# Bits of a message at most, its sign included.
MESSAGE_BITS_MAX = 16
# A message is a sum of 24 bits, shifted right.
MESSAGE_SHIFT_MAX = 23
# The grain is finer than the threshold by so many bits, where nothing speaks against it.
_FINER = 2


def wanted_grain(number: int, layers: Sequence[FloatLayer], traces: Sequence[LayerTrace], settings: Settings) -> float:
    """The grain of layer `number` that its thresholds and those who hear it ask for; infinite where nobody does."""
    threshold = np.median(layers[number].threshold)
    coarsest = np.inf if layers[number].activation == MAXIMUM else -np.log2(threshold)
    grain, size = coarsest + _FINER, float(traces[number].peak_drive.max())
    for layer, trace in zip(layers[number + 1 :], traces[number + 1 :], strict=True):
        heard = tuple(replace(each, grain=0) for each in layer.inputs if each.source == number)
        if heard:
            alone = replace(layer, inputs=heard)
            filling, _ = fillings_of(alone, settings, cut=False)
            with np.errstate(invalid="ignore"):
                # Rows that hear nothing, and may grow without a limit, say nothing.
                bits = np.log2(limits_of(alone, trace, settings)) - np.log2(filling)
            if np.isfinite(bits).any():
                # With this grain the middle row fills its weights; each bit more is one less for them.
                full = float(np.median(bits[np.isfinite(bits)]))
                even = (settings.bits - 1 + full - np.log2(size)) / 2 if size else full
                grain = min(grain, max(full, min(coarsest, even)))
    return float(np.ceil(grain))


def quantise_graded(
    layer: FloatLayer, trace: LayerTrace, settings: Settings, grain: float, largest: Sequence[int]
) -> IntegerLayer:
    """A layer that sends numbers, whose inputs know their grain, in integers. largest: messages of each input.

    grain: wished for; it becomes coarser where messages, or states, have no room for it.
    """
    maximum = layer.activation == MAXIMUM
    if settings.netx:
        kind = "MaxPool2d" if maximum else "SigmaDelta"
        raise ExportError(
            f"layer {layer.name} ({kind}): target='netx' knows LIF neurons alone; use target='lava' for it"
        )
    limits, (filling, shifts) = limits_of(layer, trace, settings), fillings_of(layer, settings, settings.cut)
    row_scale = 2.0 ** np.floor(np.log2(np.minimum(filling, limits)))
    # A row that hears nothing and has no threshold may have any scale.
    row_scale[np.isinf(row_scale)] = row_scale[np.isfinite(row_scale)].max(initial=1.0)
    shares = settings.most is not None and not maximum
    if shares:
        row_scale[:] = row_scale.min()
    exponent = exponent_of(layer, limits / row_scale, row_scale, shifts, largest, netx=False)
    peak = max(float(trace.spikes.abs().max()), float(layer.threshold.min())) * settings.headroom or 1.0
    room = int(np.floor(np.log2((2 ** (MESSAGE_BITS_MAX - 1) - 1) / peak)))
    grain = int(min(grain, room, np.log2(row_scale.min()) + exponent))
    # A row that hears almost nothing may have any scale.
    row_scale = np.minimum(row_scale, 2.0 ** (grain + MESSAGE_SHIFT_MAX - exponent))
    scale = np.repeat(row_scale, len(layer.bias) // len(row_scale))
    unit = scale * 2.0**exponent
    threshold = layer.threshold * unit
    if shares and settings.most is not None:
        threshold = nearest_level(threshold, share_levels(threshold, settings.most))
    nothing = np.zeros(len(unit), np.int64)
    whole = nothing if maximum else np.maximum(np.rint(threshold).astype(np.int64), 1)
    frame = IntegerLayer(
        layer.name,
        tuple(replace(each, shift=shift) for each, shift in zip(layer.inputs, shifts, strict=True)),
        exponent, scale, nothing, nothing, None, nothing, whole, nothing,
        layer.reset, layer.inclusive, layer.fires, settings.bits, activation=layer.activation,
        message_shift=np.log2(unit).astype(np.int64) - grain,
        message_bits=1 + int(np.ceil(peak * 2.0**grain)).bit_length(),
    )  # fmt: skip
    return filled(frame, [each.synapses.weight for each in layer.inputs], layer.bias)
