"""What an exported network does on data: spikes, synaptic operations, and the counts that energy is estimated from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikekit.export.cost.facts import LayerFacts
from spikekit.export.inputs import events
from spikekit.export.synapses import MAXIMUM


@dataclass(frozen=True)
class LayerCost:
    """One layer on one batch; counts are per sample, over all steps.

    dense_operations: synaptic operations, had neither weights nor spikes a zero. silent: neurons that never fired.
    products: those of the synaptic operations that multiply, because what arrives is a number and no spike.
    """

    spikes: float
    firing_rate: float
    silent: int
    updates: int
    synaptic_operations: float
    dense_operations: int
    products: float = 0.0


@dataclass(frozen=True)
class Costs:
    """All layers, and the whole. input_rate: of the input's neurons that are not zero in a step."""

    layers: tuple[LayerCost, ...]
    samples: int
    steps: int
    input_rate: float

    @property
    def counts(self) -> dict[str, float]:
        """Operations per sample, as `energy.estimate` takes them."""
        return {
            "synaptic_operations": sum(layer.synaptic_operations for layer in self.layers),
            "updates": float(sum(layer.updates for layer in self.layers)),
            "spikes": sum(layer.spikes for layer in self.layers),
        }

    @property
    def arithmetic(self) -> dict[str, float]:
        """The synaptic operations as `energy.CMOS_45NM` takes them: a number multiplies, a spike adds a weight."""
        products = sum(layer.products for layer in self.layers)
        return {"macs": products, "accumulates": self.counts["synaptic_operations"] - products}

    @property
    def macs(self) -> float:
        """Products of a conventional network of the same shape, which sees one sample once."""
        return sum(layer.dense_operations for layer in self.layers) / self.steps


def costs(layers: Sequence[LayerFacts], x: Tensor, spikes: Sequence[Tensor]) -> Costs:
    """Count what x [T, B, ...] and the spikes, or messages, of every layer [T, B, n] cause."""
    steps, samples = x.shape[:2]
    sent = {-1: x.flatten(2), **dict(enumerate(spikes))}
    numbers = {number: layer.graded for number, layer in enumerate(layers)}
    # Sigma-delta neurons hear changes: from the input too.
    numbers[-1] = any(
        a.source == -1 and layer.activation not in (None, MAXIMUM) for layer in layers for a in layer.inputs
    )
    per_neuron = {number: _total(activity, numbers[number]) for number, activity in sent.items()}
    rows = []
    for number, layer in enumerate(layers):
        fired = per_neuron[number]
        operations = {
            a: float(np.bincount(a.pre, minlength=len(per_neuron[a.source])) @ per_neuron[a.source])
            for a in layer.inputs
        }
        rows.append(
            LayerCost(
                spikes=float(fired.sum()) / samples,
                firing_rate=float(fired.sum()) / (layer.neurons * steps * samples),
                silent=int((fired == 0).sum()) if layer.fires else 0,
                updates=layer.neurons * steps,
                synaptic_operations=sum(operations.values()) / samples,
                dense_operations=sum(a.dense for a in layer.inputs) * steps,
                products=sum(count for a, count in operations.items() if numbers[a.source]) / samples,
            )
        )
    return Costs(tuple(rows), samples, steps, float((sent[-1] != 0).double().mean()))


def _total(activity: Tensor, graded: bool) -> NDArray[np.float64]:
    """How often each neuron sent, over time and samples [n]."""
    total: NDArray[np.float64] = events(activity, graded).sum((0, 1), dtype=torch.float64).cpu().numpy()
    return total


def messages(rates: Sequence[NDArray[np.float64]], listeners: NDArray[np.int64], steps: int) -> float:
    """Spikes times the cores that listen to each, per sample. rates: spikes a step of each neuron, by layer [n]."""
    sent = np.concatenate(rates) * steps
    # The input's neurons come first, and are not on the chip.
    return float(sent @ listeners[len(listeners) - len(sent) :])
