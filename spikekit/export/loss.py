"""What a network loses on its way from float to integers, layer by layer, and which layer hurts most.

Two views. Together: the integer network beside the float plan, where an error also carries what came before it. Alone:
one layer in integers and all others in float64, which is that layer's own share of the error in the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikekit.errors import InputError
from spikekit.export.float_run import LayerTrace, run_layer, run_plan
from spikekit.export.integer import arriving, fire
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.network import LoihiNet
from spikekit.export.signal import Floats
from spikekit.export.synapses import INPUT
from spikekit.ops.integer import STATE_MAX, WRAP


@dataclass(frozen=True)
class LayerLoss:
    """One layer of an exported network beside the float plan, on one batch of data."""

    name: str
    weight_bits: int
    weight_error: float
    """Root mean square of the rounding errors of its weights, relative to that of the weights; 0 without weights."""
    clipped_weights: int
    """Weights that are larger than their row's scale can hold."""
    lost_rows: int
    """Rows all of whose weights became 0, though they were not: their neurons no longer hear anything."""
    threshold_error: float
    """Largest relative difference of a threshold from the float one."""
    thresholds: int
    """Distinct integer thresholds; 0 for a readout."""
    spike_count_error: float
    """Mean |difference| of a neuron's spike count per sample, all layers in integers; of messages, of their sum."""
    first_difference: int | None
    """The first step at which any spike of any sample differs, all layers in integers; None when none does. Messages
    differ where one is sent and the other is not."""
    wrapped: int
    """Neuron-steps in which what arrives from other layers wrapped around 24 bits."""
    saturated: int
    """Neuron-steps whose membrane stood at the limit of 24 bits, or that sent the largest message there is."""
    alone_count_error: float
    """As spike_count_error, with this layer alone in integers."""
    alone_output_error: float
    """Root mean square error of the network's output, relative to that of the output, this layer alone in integers."""


@dataclass(frozen=True)
class QuantisationLoss:
    """All layers in their order. samples: of the batch. output_error: as alone_output_error, all layers in integers."""

    layers: tuple[LayerLoss, ...]
    samples: int
    output_error: float

    @property
    def worst(self) -> LayerLoss | None:
        """The layer that, alone in integers, changes the output most; None when none changes it."""
        most = max(self.layers, key=lambda layer: layer.alone_output_error)
        return most if most.alone_output_error > 0 else None

    def __str__(self) -> str:
        total = f"output error {self.output_error:.2%} of its size, on {self.samples} samples"
        if self.worst is None:
            return f"{total}; no layer alone changes it"
        return f"{total}; layer {self.worst.name} hurts most: alone in integers, {self.worst.alone_output_error:.2%}"


@torch.no_grad()
def quantisation_loss(chip: LoihiNet, x: Tensor) -> QuantisationLoss:
    """Compare the integer network with its float plan on x [T, B, ...], whole and one layer at a time."""
    if not isinstance(chip, LoihiNet):
        raise InputError(f"quantisation_loss: give what to_loihi made, got {type(chip).__name__}")
    chip.check_input(x)
    exact = run_plan(chip.plan, x)
    given = {INPUT: x.flatten(2)} | {
        number: (trace.spikes * 2.0 ** (layer.grain or 0)).round()
        for number, (layer, trace) in enumerate(zip(chip.layers, exact, strict=True))
    }
    sent, output = {INPUT: x.flatten(2)}, _output(chip.plan[-1], exact[-1])
    rows, last = [], output
    for number, (layer, plan) in enumerate(zip(chip.layers, chip.plan, strict=True)):
        sums = arriving(layer, sent)
        spikes, membranes, _ = fire(layer, sums, sent)
        current = sums.to(torch.int64) << (layer.exponent + layer.state_shift)
        differs = (spikes.flatten(2).bool() != exact[number].spikes.bool()).any(2).any(1).nonzero()
        alone_spikes, alone_membranes, _ = fire(layer, arriving(layer, given), given)
        alone = _sent(layer, alone_spikes, alone_membranes)
        stopped = (membranes.abs() >= STATE_MAX) | (spikes.abs() >= layer.largest if layer.graded else False)
        final = alone
        if number < len(chip.plan) - 1:
            final = _output(chip.plan[-1], _rest(chip.plan, exact, x, number, alone))
        rows.append(
            LayerLoss(
                name=layer.name,
                weight_bits=layer.weight_bits,
                weight_error=_weight_error(layer, plan),
                clipped_weights=_clipped(layer, plan),
                lost_rows=_lost(layer, plan),
                threshold_error=_threshold_error(layer, plan),
                thresholds=len(np.unique(layer.threshold)) if layer.fires else 0,
                spike_count_error=_count_error(layer, spikes, exact[number].spikes),
                first_difference=int(differs[0]) if len(differs) else None,
                wrapped=int(((current > WRAP) | (current <= -WRAP)).sum()),
                saturated=int(stopped.sum()),
                alone_count_error=_count_error(layer, alone_spikes, exact[number].spikes),
                alone_output_error=_relative(final, output),
            )
        )
        last = _sent(layer, spikes, membranes)
        sent[number] = spikes.flatten(2)
    return QuantisationLoss(tuple(rows), x.shape[1], _relative(last, output))


def _rest(plan: Sequence[FloatLayer], exact: Sequence[LayerTrace], x: Tensor, number: int, alone: Tensor) -> LayerTrace:
    """What the last layer does when layer `number` sends `alone`; layers in front of it are known already."""
    sent = {INPUT: x.flatten(2).double(), number: alone}
    sent |= {before: exact[before].spikes for before in range(number)}
    for after in range(number + 1, len(plan)):
        trace = run_layer(plan[after], sent)
        sent[after] = trace.spikes
    return trace


def _sent(layer: IntegerLayer, spikes: Tensor, membranes: Tensor) -> Tensor:
    """What leaves a layer, in float64: spikes, or messages or a readout's membranes in units of 1.0 [T, B, n]."""
    if layer.fires:
        return spikes.flatten(2).double() / 2.0 ** (layer.grain or 0)
    return membranes.flatten(2).double() / torch.from_numpy(layer.unit).to(membranes.device)


def _output(plan: FloatLayer, trace: LayerTrace) -> Tensor:
    return trace.spikes if plan.fires else trace.membranes


def _relative(found: Tensor, wanted: Tensor) -> float:
    size = float(wanted.square().mean().sqrt())
    error = float((found - wanted).square().mean().sqrt())
    return error / size if size else error


def _count_error(layer: IntegerLayer, found: Tensor, wanted: Tensor) -> float:
    return float((_sent(layer, found, found).sum(0) - wanted.sum(0)).abs().mean() if layer.fires else 0.0)


def _weights(layer: IntegerLayer, plan: FloatLayer) -> list[tuple[Floats, Floats, Floats]]:
    """Of each input: float weights in the integer layer's scales, not rounded, the integer ones, and the scales."""
    found = []
    for projection, exact in zip(layer.inputs, plan.inputs, strict=True):
        scale = projection.synapses.per_weight(layer.row_scale(projection))
        found.append(
            (
                exact.synapses.weight * scale,
                projection.synapses.weight,
                np.broadcast_to(scale, exact.synapses.weight.shape),
            )
        )
    return found


def _weight_error(layer: IntegerLayer, plan: FloatLayer) -> float:
    every = _weights(layer, plan)
    error = sum(float(np.square((whole - wanted) / scale).sum()) for wanted, whole, scale in every)
    size = sum(float(np.square(wanted / scale).sum()) for wanted, _, scale in every)
    return (error / size) ** 0.5 if size else 0.0


def _clipped(layer: IntegerLayer, plan: FloatLayer) -> int:
    most = 256 // layer.weight_step - 1
    return sum(int((np.rint(np.abs(wanted) / layer.weight_step) > most).sum()) for wanted, *_ in _weights(layer, plan))


def _lost(layer: IntegerLayer, plan: FloatLayer) -> int:
    pairs = zip(layer.inputs, plan.inputs, strict=True)
    heard = [(whole.synapses.by_row().any(1), exact.synapses.by_row().any(1)) for whole, exact in pairs]
    return sum(int((exact & ~whole).sum()) for whole, exact in heard)


def _threshold_error(layer: IntegerLayer, plan: FloatLayer) -> float:
    if not layer.fires:
        return 0.0
    exact = plan.threshold * layer.unit
    return float((np.abs(layer.level - exact) / np.maximum(np.abs(exact), 1)).max())
