"""What an exported network costs, layer by layer: sizes, activity, operations. What it loses is in `loss.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from spikekit.export.network import LoihiNet
from spikekit.ops.integer import STATE_MAX


@dataclass(frozen=True)
class LayerReport:
    """One layer of an exported network on one batch of data; per sample where it says so."""

    name: str
    kind: str
    shape: tuple[int, ...]
    neurons: int
    synapses: int
    exponent: int
    firing_rate: float
    """Spikes per neuron and step in the integer network."""
    float_rate: float
    """The same in the float plan."""
    spike_count_error: float
    """Mean |difference| of a neuron's spike count per sample between the integer network and the float plan."""
    saturated: int
    """Neuron-steps whose membrane stood at the limit of 24 bits."""
    synaptic_operations: float
    """Spikes arriving at non-zero synapses, per sample."""


def layer_reports(chip: LoihiNet, x: Tensor) -> list[LayerReport]:
    """Run x [T, B, ...] through the integer network and the float plan, and report every layer."""
    integer, exact = chip.trace(x), chip.trace_float(x)
    samples = x.shape[1]
    reports = []
    arriving = x.flatten(2)
    for layer, trace, reference in zip(chip.layers, integer, exact, strict=True):
        counts = trace.spikes.sum(0).double() - reference.spikes.sum(0)
        reports.append(
            LayerReport(
                name=layer.name,
                kind=layer.synapses.kind,
                shape=layer.synapses.out_shape,
                neurons=layer.synapses.n_out,
                synapses=layer.synapses.count,
                exponent=layer.exponent,
                firing_rate=float(trace.spikes.double().mean()),
                float_rate=float(reference.spikes.mean()),
                spike_count_error=float(np.abs(counts.numpy()).mean()),
                saturated=int((trace.membranes.abs() >= STATE_MAX).sum()),
                synaptic_operations=layer.synapses.operations(arriving) / samples,
            )
        )
        arriving = trace.spikes
    return reports
