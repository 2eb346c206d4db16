"""What an exported network costs, layer by layer: sizes, activity, operations. What it loses is in `loss.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spikekit.errors import InputError
from spikekit.export.cost.costs import costs
from spikekit.export.cost.facts import facts
from spikekit.export.network import LoihiNet
from spikekit.export.synapses import SELF
from spikekit.ops.integer import STATE_MAX


@dataclass(frozen=True)
class LayerReport:
    """One layer of an exported network on one batch of data; per sample where it says so."""

    name: str
    kind: str
    """Of its inputs: "dense", "conv" or "sparse", joined by "+"; with "own" for spikes that come back."""
    shape: tuple[int, ...]
    neurons: int
    synapses: int
    exponent: int
    firing_rate: float
    """Spikes, or messages, per neuron and step in the integer network."""
    float_rate: float
    """The same in the float plan."""
    spike_count_error: float
    """Mean |difference| of a neuron's spike count per sample between the integer network and the float plan; of
    messages, of their sum."""
    saturated: int
    """Neuron-steps whose membrane stood at the limit of 24 bits."""
    synaptic_operations: float
    """Spikes, or messages, arriving at non-zero synapses, per sample."""


def layer_reports(chip: LoihiNet, x: Tensor) -> list[LayerReport]:
    """Run x [T, B, ...] through the integer network and the float plan, and report every layer."""
    if not isinstance(chip, LoihiNet):
        raise InputError(f"layer_reports: give what to_loihi made, got {type(chip).__name__}")
    integer, exact = chip.trace(x), chip.trace_float(x)
    described = facts(chip)
    counted = costs(described, x, [trace.spikes for trace in integer]).layers
    reports = []
    for layer, known, cost, trace, reference in zip(chip.layers, described, counted, integer, exact, strict=True):
        counts = trace.spikes.sum(0).double() / 2.0 ** (layer.grain or 0) - reference.spikes.sum(0)
        reports.append(
            LayerReport(
                name=layer.name,
                kind="+".join("own" if p.source == SELF else p.synapses.kind for p in layer.inputs),
                shape=layer.shape,
                neurons=known.neurons,
                synapses=known.synapses,
                exponent=layer.exponent,
                firing_rate=cost.firing_rate,
                float_rate=float(reference.spikes.bool().double().mean()),
                spike_count_error=float(np.abs(counts.numpy()).mean()),
                saturated=int((trace.membranes.abs() >= STATE_MAX).sum()),
                synaptic_operations=cost.synaptic_operations,
            )
        )
    return reports
