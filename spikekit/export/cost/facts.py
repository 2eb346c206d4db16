"""What reports need to know of an exported network, as plain arrays: the only part of them that knows `LoihiNet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from spikekit.export.cost.packing import Wiring
from spikekit.export.integer_layer import DECAY_ONE, IntegerLayer
from spikekit.export.network import LoihiNet
from spikekit.export.synapses import SELF, Projection

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arriving:
    """One set of synapses of a layer.

    source: the layer that it comes from, -1 for the input, the layer itself for feedback. post, pre: its non-zero
    synapses, by neuron. weights: as they are stored, kernels once and zeros too. dense: its synapses, zeros too, but
    for channels and places of a kernel that have no weights at all; kind "sparse" has none. shift: that its weights
    have on top of the layer's exponent.
    """

    source: int
    kind: str
    post: Ints
    pre: Ints
    weights: Ints
    dense: int
    shift: int


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """One layer of neurons. thresholds, decays, scale: a value a neuron [n]; configs: equal where its decays are.

    activation: of neurons that send numbers in place of spikes, None of others. calcium: slow states of astrocytes over
    them. No other count holds these, nor what they hear and send: no chip whose limits and energies are known has any.
    """

    name: str
    shape: tuple[int, ...]
    inputs: tuple[Arriving, ...]
    weight_bits: int
    exponent: int
    scale: NDArray[np.float64]
    thresholds: Ints
    decays: Ints
    configs: Ints
    reset: str
    fires: bool
    activation: str | None = None
    calcium: int = 0

    @property
    def graded(self) -> bool:
        """Whether its neurons send numbers in place of spikes."""
        return self.activation is not None

    @property
    def neurons(self) -> int:
        """Their number."""
        return prod(self.shape)

    @property
    def kind(self) -> str:
        """The kinds of its synapses."""
        return " + ".join(dict.fromkeys(arriving.kind for arriving in self.inputs))

    @property
    def synapses(self) -> int:
        """Non-zero synapses."""
        return sum(len(arriving.post) for arriving in self.inputs)


def facts(chip: LoihiNet) -> tuple[LayerFacts, ...]:
    """Every layer of `chip`, in the order of the data."""
    return tuple(_layer(number, layer) for number, layer in enumerate(chip.layers))


def _layer(number: int, layer: IntegerLayer) -> LayerFacts:
    # Neurons share a configuration of a core where both of their decays are equal.
    current = 0 if layer.current_decay is None else layer.current_decay
    return LayerFacts(
        name=layer.name,
        shape=layer.shape,
        inputs=tuple(_arriving(number, projection) for projection in layer.inputs),
        weight_bits=layer.weight_bits,
        exponent=layer.exponent,
        scale=layer.scale,
        thresholds=layer.threshold,
        decays=layer.decay,
        configs=layer.decay + DECAY_ONE * current,
        reset=layer.reset,
        fires=layer.fires,
        activation=layer.activation,
        calcium=0 if layer.astrocyte is None else layer.astrocyte.decay.size,
    )


def _arriving(number: int, projection: Projection) -> Arriving:
    synapses = projection.synapses
    post, pre, _ = synapses.connections
    source = number if projection.source == SELF else projection.source
    there = np.ones_like(synapses.weight)
    if synapses.kind == "conv":
        # A part of a concatenation has channels without weights, a place of a window has rims without them.
        real = synapses.weight != 0
        there = there * real.any((1, 2, 3), keepdims=True) * real.any((0, 1), keepdims=True)
    dense = synapses.with_weight(there).count
    return Arriving(source, synapses.kind, post, pre, synapses.weight.flatten(), dense, projection.shift)


def wirings(layers: Sequence[LayerFacts], inputs: int) -> tuple[Wiring, ...]:
    """The layers as cores see them; inputs: neurons of the input, which are numbered first."""
    firsts = np.cumsum([inputs, *(layer.neurons for layer in layers)]).tolist()
    begin = {-1: 0} | dict(enumerate(firsts))
    return tuple(
        Wiring(
            name=layer.name,
            first=first,
            shape=layer.shape,
            post=np.concatenate([arriving.post for arriving in layer.inputs]),
            pre=np.concatenate([arriving.pre + begin[arriving.source] for arriving in layer.inputs]),
            weight_bits=layer.weight_bits,
            thresholds=layer.thresholds,
            configs=layer.configs,
            fires=layer.fires,
            group=np.repeat(np.arange(len(layer.inputs)), [len(arriving.post) for arriving in layer.inputs]),
        )
        for layer, first in zip(layers, firsts, strict=False)
    )
