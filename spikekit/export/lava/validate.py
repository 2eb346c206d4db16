"""What Lava 0.10.0 would accept and then compute something else with: refused before it starts.

Lava clips and truncates weights, wraps 32-bit sums and ignores what a process has no use for, all without a
word. Each check here names the layer and the field, says what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spikekit.errors import ExportError
from spikekit.export.astrocyte import FloatAstrocyte, misfit
from spikekit.export.synapses import INPUT, MAXIMUM, SELF

if TYPE_CHECKING:
    from spikekit.export.lava.job import LavaJob
    from spikekit.export.lava.layer import LavaLayer

STATE_MAX = 2**23 - 1
THRESHOLD_MAX = 2**17 - 1
DECAY_ONE = 4096
INPUT_BITS_MAX = 24
MESSAGE_BITS_MAX = 24
MESSAGE_SHIFT_MAX = 23
WEIGHT_EXP_MAX = 7

FIXED_RANGES = {
    "current_decay": (0, DECAY_ONE - 1, "the removed fraction in 1/4096, less one: 4095 - round(alpha * 4096)"),
    "decay": (0, DECAY_ONE, "the removed fraction in 1/4096: round((1 - beta) * 4096)"),
    "bias": (-STATE_MAX, STATE_MAX, "a 24-bit membrane cannot hold it: lower the scale of the layer"),
    "adapt_decay": (0, DECAY_ONE, "the removed fraction in 1/4096: round((1 - rho) * 4096)"),
    "adapt_step": (0, STATE_MAX, "a 24-bit state cannot hold it: lower the scale of the layer"),
    "threshold": (
        -THRESHOLD_MAX,
        THRESHOLD_MAX,
        "17 bits and a sign, before the shift by 6: lower the scale of the layer",
    ),
    "quantum": (-STATE_MAX, STATE_MAX, "a 24-bit membrane cannot hold it: lower the scale of the layer"),
    "message_shift": (0, MESSAGE_SHIFT_MAX, "bits of a 24-bit state that its message leaves out"),
}
_GRADED_RANGES = FIXED_RANGES | {
    "threshold": (1, STATE_MAX, "above 0, and held against a 24-bit state: change the scale of the layer"),
}


def refuse(layer: str, field: str, found: str, fix: str) -> ExportError:
    """The error of one field of one layer."""
    return ExportError(f"layer {layer!r}: {field}: {found}. {fix}")


def sign_mode(name: str, values: npt.NDArray[Any], bits: int = 8) -> str:
    """The sign mode under which Lava's fixed-point weights equal `values`, or ExportError.

    MIXED holds even integers in [-256, 254]; EXCITATORY 0..255; INHIBITORY -255..0 (lava.utils.weightutils:
    clip_weights to 8 bits, then truncate_weights). Fewer bits than 8 leave the multiples of 2^(8 - bits) of these.
    """
    if not 1 <= bits <= 8:
        raise refuse(name, "weight_bits", f"{bits} is not in 1..8", "Lava holds weights of 8 bits at most.")
    finest = 2 ** (8 - bits)
    if (values % finest).any():
        raise refuse(
            name,
            "values",
            f"weights that are no multiples of {finest}, which Lava would round down to {bits} bits",
            "Round them, or raise weight_bits.",
        )
    if not values.size:
        return "MIXED"
    low, high = int(values.min()), int(values.max())
    if low >= -256 and high <= 254 and not (values % (2 * finest)).any():
        return "MIXED"
    if low >= 0 and high <= 255:
        return "EXCITATORY"
    if high <= 0 and low >= -255:
        return "INHIBITORY"
    odd = "" if low < -256 or high > 255 else f", {int((values % 2).sum())} of them odd"
    raise refuse(
        name,
        "values",
        f"weights from {low} to {high}{odd}, which Lava would clip or round down",
        "Weights of mixed sign must be even and within [-256, 254]; of one sign, within 255 of zero.",
    )


def check_astrocyte(layer: LavaLayer) -> None:
    """Whether a layer's astrocyte fits its neurons, and these are such that know what to make of it."""
    if layer.astrocyte is None:
        if layer.senses:
            raise refuse(layer.name, "senses", "there is no astrocyte", "Give one, or nothing to sense.")
        return
    plain = layer.current_decay is None and layer.adapt_decay is None and not layer.period and layer.activation is None
    if not (plain and layer.fires):
        raise refuse(layer.name, "astrocyte", "over neurons with states of their own", "Give it plain ones that fire.")
    if wrong := misfit(layer.astrocyte, layer.n, bool(layer.senses)):
        raise refuse(layer.name, "astrocyte", wrong, "Give it as spikekit.export.astrocyte says.")


def check_fixed(layer: LavaLayer, largest: Mapping[int, int]) -> None:
    """Ranges of a fixed-point layer; `largest`: source -> the largest magnitude of one of its messages."""
    total = np.zeros(layer.n * layer.dendrites)
    if layer.activation is not None and not 2 <= layer.message_bits <= MESSAGE_BITS_MAX:
        fix = f"A number that is sent has 2 to {MESSAGE_BITS_MAX} bits."
        raise refuse(layer.name, "message_bits", f"{layer.message_bits}", fix)
    if layer.activation is not None and layer.message_shift is None:
        raise refuse(layer.name, "message_shift", "is not there", "What sends numbers needs it in fixed mode.")
    if isinstance(layer.astrocyte, FloatAstrocyte):
        raise refuse(layer.name, "astrocyte", "floats in fixed mode", "Give an IntegerAstrocyte.")
    ranges = FIXED_RANGES if layer.activation in (None, MAXIMUM) else _GRADED_RANGES
    for each in layer.senses:
        sign_mode(layer.name, each.values)
        if each.weight_exp or largest[each.source] * len(each.rows) >= 2**31:
            raise refuse(
                layer.name, "senses", "more than 32 bits can count", "Leave weight_exp 0, or lower input_bits."
            )
    for each in layer.inputs:
        sign_mode(layer.name, each.values, layer.weight_bits)
        if not 0 <= each.weight_exp <= WEIGHT_EXP_MAX:
            raise refuse(
                layer.name,
                "weight_exp",
                f"{each.weight_exp} is not in 0..{WEIGHT_EXP_MAX}",
                "Rescale the weights.",
            )
        sums = np.bincount(each.rows, weights=np.abs(each.values), minlength=len(total))
        total += sums * 2.0**each.weight_exp * largest[each.source]
    for field in layer.per_neuron:
        low, high, why = ranges[field]
        array = getattr(layer, field)
        outside = np.flatnonzero((array < low) | (array > high))
        if outside.size:
            worst = f"{int(array[outside[0]])} of neuron {outside[0]} is not in {low}..{high}"
            raise refuse(layer.name, field, worst, f"({why}.)")
    if total.max() >= 2**31:
        raise refuse(
            layer.name,
            "values",
            f"neuron {int(total.argmax()) % layer.n} could receive {int(total.max())} in one step, and Lava sums in 32 "
            "bits",
            "Lower weight_exp or input_bits, or split the layer.",
        )


def check_float(layer: LavaLayer) -> None:
    """Ranges of a floating-point layer."""
    for each in (*layer.inputs, *layer.senses):
        if each.weight_exp:
            found = f"{each.weight_exp} has no meaning in float mode"
            raise refuse(layer.name, "weight_exp", found, "Set it to 0 there.")
    if layer.astrocyte is not None and not isinstance(layer.astrocyte, FloatAstrocyte):
        raise refuse(layer.name, "astrocyte", "integers in float mode", "Give a FloatAstrocyte.")
    if layer.message_shift is not None or layer.message_bits:
        raise refuse(layer.name, "message_bits", "messages of float mode have none", "Leave it and message_shift out.")
    if layer.activation not in (None, MAXIMUM) and (layer.threshold <= 0).any():
        raise refuse(layer.name, "threshold", f"{layer.threshold.min()}", "A sigma-delta neuron's is above 0.")
    arrays = [(field, getattr(layer, field)) for field in layer.per_neuron]
    for field, array in [*(("values", each.values) for each in layer.inputs), *arrays]:
        bad = np.flatnonzero(~np.isfinite(array))
        if bad.size:
            raise refuse(layer.name, field, f"entry {bad[0]} is not finite", "Check the network for NaN or inf.")
        if field in ("decay", "current_decay", "adapt_decay"):
            outside = np.flatnonzero((array < 0) | (array > 1))
            if outside.size:
                found = f"{array[outside[0]]} of neuron {outside[0]} is not in [0, 1]"
                raise refuse(layer.name, field, found, "Give beta itself: the fraction that stays.")


def check_inputs(job: LavaJob) -> int:
    """Check the input frames; returns the largest magnitude that one message may have."""
    inputs, bits = job.inputs, job.input_bits
    if inputs.ndim != 3 or 0 in inputs.shape:
        raise ExportError(
            f"inputs: shape {inputs.shape} is not [N, T, n_in], each at least 1. Flatten a frame to one axis."
        )
    if not 0 <= bits <= INPUT_BITS_MAX:
        raise ExportError(f"input_bits: {bits} is not in 0..{INPUT_BITS_MAX}. Use 0 for binary spikes.")
    if inputs.dtype.kind == "f" and not (job.mode == "float" and bits):
        raise ExportError(
            f"inputs: {inputs.dtype} frames need float mode and input_bits above 0. Convert spikes to bool."
        )
    if inputs.dtype.kind not in "biuf":
        raise ExportError(f"inputs: dtype {inputs.dtype} is not a number. Give bool or integer frames.")
    if not np.isfinite(inputs).all():
        raise ExportError("inputs: a value is not finite. Check the frames for NaN or inf.")
    low, high = inputs.min(), inputs.max()
    if bits == 0 and (low < 0 or high > 1):
        raise ExportError(
            f"inputs: values from {low} to {high} are not binary spikes. Set input_bits, or make them binary."
        )
    if bits and (high >= 2**bits or low <= -(2**bits)):
        raise ExportError(
            f"inputs: values from {low} to {high} are not below {2**bits}, the magnitude of {bits} bits. "
            "Raise input_bits."
        )
    return 2**bits - 1 if bits else 1


def check_graph(job: LavaJob) -> None:
    """Check that each input comes from an earlier layer, and that the layers have names of their own."""
    if not job.layers:
        raise ExportError("layers: there are none. A job needs at least one layer.")
    names = set[str]()
    for index, layer in enumerate(job.layers):
        if layer.name in names:
            raise refuse(layer.name, "name", "is taken already", "Give each layer a name of its own.")
        names.add(layer.name)
        if all(each.source == SELF for each in layer.inputs):
            raise refuse(layer.name, "inputs", "the layer's own spikes alone", "Connect it to another layer.")
        if any(each.source == SELF for each in layer.senses):
            fix = "Its own spikes an astrocyte senses by its share."
            raise refuse(layer.name, "senses", "the layer itself", fix)
        for each in (*layer.inputs, *layer.senses):
            if not (each.source in (INPUT, SELF) or 0 <= each.source < index):
                fix = "Order the layers as the data flows."
                raise refuse(layer.name, "inputs", f"source {each.source} is no earlier layer", fix)
            source = layer if each.source == SELF else job.layers[each.source] if each.source >= 0 else None
            width = job.inputs.shape[2] if source is None else source.n
            if each.n_in != width:
                before = "inputs" if source is None else f"layer {source.name!r}"
                found = f"{each.n_in} input columns, but {before} has {width} neurons"
                raise refuse(layer.name, "n_in", found, "Order the layers as the data flows.")
            if source is not None and not source.fires:
                found = f"layer {source.name!r} does not fire, so nothing arrives from it"
                raise refuse(layer.name, "inputs", found, "Put a readout last.")
