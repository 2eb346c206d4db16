"""How many units a 1.0 may be in each row of a layer: what its weights fill, and what its states allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikekit.errors import ExportError
from spikekit.export.float_run import LayerTrace
from spikekit.export.integer_layer import (
    BIAS_EXPONENT_MAX,
    BIAS_MANTISSA_MAX,
    EXPONENT_MAX,
    NETX_BIAS_EXPONENT,
    THRESHOLD_MAX,
    hears_spikes,
)
from spikekit.export.layers import FloatLayer
from spikekit.export.signal import Floats
from spikekit.ops.integer import STATE_MAX, STATE_SHIFT

# Parts of its largest weight that a row may be cut to, tried from the largest: where it ends is where it errs least.
_CUTS = np.arange(1.0, 0.39, -0.05)
# Lava adds up what arrives in 32 bits.
_SUM_MAX = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """How `quantise` was called. most: thresholds that a layer may have, None for one a neuron."""

    headroom: float
    bits: int
    most: int | None
    cut: bool
    netx: bool

    @property
    def bias_exponent(self) -> int:
        """The largest exponent of a bias."""
        return NETX_BIAS_EXPONENT if self.netx else BIAS_EXPONENT_MAX


def state_shift_of(layer: FloatLayer) -> int:
    """`IntegerLayer.state_shift` of a layer whose inputs know their grain."""
    return 0 if layer.graded or not (layer.fires or hears_spikes(layer.inputs)) else STATE_SHIFT


def limits_of(layer: FloatLayer, trace: LayerTrace, settings: Settings) -> Floats:
    """The largest scale·2^exponent that keeps each row's states, with headroom, and parameters in their bits [rows]."""
    state = np.maximum(trace.membranes.abs().amax((0, 1)).cpu().numpy(), trace.peak_drive.cpu().numpy())
    # A quantum below 0 is added to a membrane that is above its threshold already.
    state = (state + np.maximum(-layer.quantum, 0)) * settings.headroom
    sizes = [(STATE_MAX, np.maximum(state, np.abs(layer.bias))), (STATE_MAX, np.abs(layer.quantum))]
    if layer.graded:
        sizes.append((STATE_MAX, layer.threshold))
    else:
        sizes.append((BIAS_MANTISSA_MAX << settings.bias_exponent, np.abs(layer.bias)))
        sizes.append((THRESHOLD_MAX << STATE_SHIFT, np.abs(layer.threshold)))
    if layer.astrocyte is not None and layer.astrocyte.acts_on == "threshold":
        # As high as astrocytes can lift it.
        lift = 1 + np.repeat(np.abs(layer.astrocyte.strength), len(layer.bias) // len(layer.astrocyte.strength))
        sizes.append((STATE_MAX, layer.threshold * lift))
    with np.errstate(divide="ignore"):
        # For the neediest neuron of each row.
        least: Floats = np.minimum.reduce([(most / size).reshape(layer.rows, -1).min(1) for most, size in sizes])
    return least / 2 ** state_shift_of(layer)


def fillings_of(layer: FloatLayer, settings: Settings, cut: bool) -> tuple[Floats, list[int]]:
    """The scale of each row that fills the bits of its weights [rows], infinite without any; the shift of each input.

    cut: the largest weights may clip. Scales of sigma-delta layers are powers of two, but for their shift.
    """
    fillings = [
        _filling(np.asarray(each.synapses.by_row(), np.float64), 2 ** (9 - settings.bits), cut, layer.graded)
        .reshape(layer.rows, -1)
        .min(1)
        * 2.0 ** (each.grain or 0)
        for each in layer.inputs
    ]
    shifts = _shifts(fillings)
    return np.minimum.reduce([fill * 2.0**shift for fill, shift in zip(fillings, shifts, strict=True)]), shifts


def exponent_of(
    layer: FloatLayer, room: Floats, row_scale: Floats, shifts: Sequence[int], largest: Sequence[int], netx: bool
) -> int:
    """The largest exponent of the weights that leaves all states their room, which is a factor a row.

    largest: what one message of each input may be. Raises ExportError where the sum of them all is beyond Lava.
    """
    exponent = int(np.clip(np.floor(np.log2(room.min())), 0, 0 if netx else EXPONENT_MAX - max(shifts)))
    if max(largest) <= 1:
        return exponent
    reach: dict[int, float] = {}
    for each, shift, most in zip(layer.inputs, shifts, largest, strict=True):
        by_row = np.abs(np.asarray(each.synapses.by_row(), np.float64))
        scale = np.repeat(row_scale, len(by_row) // len(row_scale)) * 2.0 ** -(shift + (each.grain or 0))
        # A weight may be rounded up by half of the coarsest step.
        found = float((by_row.sum(1) * scale + 16 * (by_row > 0).sum(1)).max()) * most * 2**shift
        reach[each.dendrite] = reach.get(each.dendrite, 0.0) + found
    farthest = max(reach.values())
    if farthest > _SUM_MAX:
        raise ExportError(
            f"layer {layer.name}: messages of up to {max(largest):,} times its weights could add up to {farthest:,.0f},"
            " and Lava sums in 32 bits. Raise the thresholds of the sigma-delta layers in front, or split the layer."
        )
    return min(exponent, int(np.log2(_SUM_MAX / max(farthest, 1))))


def _shifts(fillings: Sequence[Floats]) -> list[int]:
    """The shift of each input: by how many bits its weights are the larger ones, in the middle of its rows."""
    sizes = [np.log2(fill[np.isfinite(fill)]) for fill in fillings]
    middles = [float(np.median(size)) if len(size) else None for size in sizes]
    finest = max((middle for middle in middles if middle is not None), default=0.0)
    return [0 if middle is None else min(round(finest - middle), EXPONENT_MAX) for middle in middles]


def _filling(weight: Floats, step: int, cut: bool, power: bool) -> Floats:
    """The scale of each row of weights [rows, k] that fills the bits: infinite for a row of zeros.

    cut: it may clip the largest weights. power: of two.
    """
    top = 256 - step
    with np.errstate(divide="ignore"):
        scale: Floats = top / np.abs(weight).max(1)
        scale = 2.0 ** np.floor(np.log2(scale)) if power else scale
    if not cut:
        return scale
    best, least = scale, np.full(len(weight), np.inf)
    for part in (1.0, 0.5) if power else _CUTS:
        trial = np.where(np.isinf(scale), 1.0, scale / part)[:, None]
        steps = np.clip(np.rint(weight * trial / step), -top // step, top // step)
        error = ((step * steps / trial - weight) ** 2).sum(1)
        best = np.where(error < least, scale / part, best)
        least = np.minimum(error, least)
    return best
