"""What an exported network costs, layer by layer: sizes, activity, operations. What it loses is in `loss.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spikekit.export.inputs import events
from spikekit.export.network import LoihiNet
from spikekit.export.synapses import INPUT, SELF
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
    integer, exact = chip.trace(x), chip.trace_float(x)
    samples = x.shape[1]
    reports = []
    changes = any(layer.graded and p.source == INPUT for layer in chip.layers for p in layer.inputs)
    sent = {INPUT: events(x.flatten(2), changes)}
    sent |= {number: trace.spikes.bool() for number, trace in enumerate(integer)}
    for number, (layer, trace, reference) in enumerate(zip(chip.layers, integer, exact, strict=True)):
        arriving = [(p.synapses, sent[number if p.source == SELF else p.source]) for p in layer.inputs]
        counts = trace.spikes.sum(0).double() / 2.0 ** (layer.grain or 0) - reference.spikes.sum(0)
        reports.append(
            LayerReport(
                name=layer.name,
                kind="+".join("own" if p.source == SELF else p.synapses.kind for p in layer.inputs),
                shape=layer.shape,
                neurons=len(layer.bias),
                synapses=sum(p.synapses.count for p in layer.inputs),
                exponent=layer.exponent,
                firing_rate=float(trace.spikes.bool().double().mean()),
                float_rate=float(reference.spikes.bool().double().mean()),
                spike_count_error=float(np.abs(counts.numpy()).mean()),
                saturated=int((trace.membranes.abs() >= STATE_MAX).sum()),
                synaptic_operations=sum(synapses.operations(spikes) for synapses, spikes in arriving) / samples,
            )
        )
    return reports
