"""The export plan: a trained network as layers of neurons and the synapses between them, in float64.

What lies between neurons is read into synapses (`reader.py`, `signal.py`), batch normalisation included. A norm of a
membrane becomes thresholds, and max pooling a layer of neurons of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from torch import Tensor, nn

from spikekit.errors import ExportError
from spikekit.export.faithful import Heard, check_drives
from spikekit.export.layers import FloatLayer, layer_of
from spikekit.export.maximum import maximum_layer, places
from spikekit.export.pooling import maximum_pool
from spikekit.export.reader import read
from spikekit.export.signal import Signal
from spikekit.export.synapses import INPUT, MAXIMUM, SELF
from spikekit.neurons import Neuron


@dataclass(frozen=True, eq=False)
class Plan:
    """The layers in the order of the data, the last one the output; neurons: the modules that they were read from."""

    layers: tuple[FloatLayer, ...]
    neurons: Mapping[str, Neuron]


def plan(net: nn.Module, sample: Tensor) -> Plan:
    """Read a network.

    net: `sk.Sequential` and modules with a forward of their own, nested as they like, in eval mode, or what `sk.fold`
    made of them: Conv2d, Linear, BatchNorm, pooling by averages, max pooling, Upsample by repeating, Flatten,
    Dropout, sums, concatenation, TripartiteSynapse, and our LIF, IF, LI, CUBALIF, RecurrentLIF, ALIF, RefractoryLIF,
    SigmaDelta. An LIF's norm becomes thresholds; a neuron that fires below its threshold gets the opposite of its
    weights, bias, threshold and soft reset's quantum.
    sample: any valid input [T, B, ...], for its shape. Raises ExportError with the reason and the way out
    for anything else, before anything is written; also where the plan turns out not to repeat the network.
    """
    shape = tuple(sample.shape[2:])
    planner = _Planner()
    found = read(net, Signal.of(INPUT, shape, "input"), planner)
    if not planner.layers:
        raise ExportError(
            "the network holds no neuron that can be exported: there is nothing to export. End it in sk.LIF() or "
            "sk.LI()."
        )
    last, *others = found.terms
    if others or not found.bare() or last.source == INPUT:
        planner.refuse_silent(found)
        raise ExportError(
            f"the network ends in {found.origin} without a neuron. Append sk.LI() to read its membrane on the chip."
        )
    check_drives(net, planner.signals, found, shape)
    return _needed(planner, last.source)


def _needed(planner: _Planner, output: int) -> Plan:
    """The layers that the output depends on, numbered anew; the output comes last."""
    wanted, pending = set[int](), [output]
    while pending:
        at = pending.pop()
        if at not in wanted and at >= 0:
            wanted.add(at)
            pending += [each.source for each in (*planner.layers[at].inputs, *planner.layers[at].senses)]
    number = {old: new for new, old in enumerate(sorted(wanted))} | {INPUT: INPUT, SELF: SELF}
    layers = tuple(
        replace(
            layer,
            inputs=tuple(replace(each, source=number[each.source]) for each in layer.inputs),
            senses=tuple(replace(each, source=number[each.source]) for each in layer.senses),
        )
        for at, layer in enumerate(planner.layers)
        if at in wanted
    )
    kept = {layer.name for layer in layers}
    return Plan(layers, {name: neuron for name, neuron in planner.neurons.items() if name in kept})


class _Planner:
    """Turns the neurons that the reader meets into layers."""

    def __init__(self) -> None:
        self.layers: list[FloatLayer] = []
        self.neurons: dict[str, Neuron] = {}
        self.signals: list[Heard] = []

    def fire(self, name: str, neuron: Neuron, signal: Signal, presynaptic: Signal | None = None) -> Signal:
        """A layer of `neuron` driven by `signal`; presynaptic: what it is given to sense."""
        self.refuse_silent(signal)
        name = self._free(name)
        self.neurons[name] = neuron
        self.signals.append((name, neuron, signal, presynaptic))
        layer = layer_of(name, neuron, signal, presynaptic)
        if any(each.source >= 0 and self.layers[each.source].graded for each in layer.senses):
            raise ExportError(
                f"layer {name}: its Astrocyte counts the spikes that arrive, and these are numbers, of sigma-delta "
                "neurons or a maximum; use senses='post'"
            )
        return self._append(layer, signal.shape)

    def maximum(self, name: str, pool: nn.MaxPool2d, signal: Signal) -> Signal:
        """Max pooling: of spikes, a neuron that fires in every step in which any of its window does; else `maximum`."""
        self.refuse_silent(signal)
        name = self._free(name)
        where, sources = f"layer {name} (MaxPool2d)", [self._source(term.source) for term in signal.terms]
        if any(source is not None and source.activation not in (None, MAXIMUM) for source in sources):
            raise ExportError(
                f"{where}: the messages of sigma-delta neurons are changes, whose maximum is not that of what they "
                "stand for; use average pooling or a strided convolution"
            )
        if not signal.bare() or any(source is None or source.graded for source in sources):
            found = places(where, pool, signal)
            self.signals.append((name, None, found, None))
            return self._append(maximum_layer(name, found), found[0].shape)
        terms = [term.behind(where, maximum_pool(where, pool, term.shape), term.offset) for term in signal.terms]
        shape = (signal.shape[0], *terms[0].shape[1:])
        pooled = Signal(shape, tuple(terms), np.zeros(shape), f"layer {name}")
        self.signals.append((name, None, pooled, None))
        n = prod(shape)
        layer = FloatLayer(
            name, pooled.projections(), np.zeros(n), None, np.zeros(n), np.full(n, 0.5), np.full(n, 0.5), "hard",
            inclusive=False, fires=True,
        )  # fmt: skip
        return self._append(layer, shape)

    def _source(self, number: int) -> FloatLayer | None:
        """The layer of that number, None for the input."""
        return None if number == INPUT else self.layers[number]

    def refuse_silent(self, signal: Signal) -> None:
        """Raise where a layer that sends nothing is a part of the signal."""
        for term in signal.terms:
            if term.source >= 0 and not self.layers[term.source].fires:
                name = self.layers[term.source].name
                raise ExportError(f"layer {name} (LI) does not fire, so nothing can follow it; use sk.LIF")

    def _append(self, layer: FloatLayer, shape: tuple[int, ...]) -> Signal:
        self.layers.append(layer)
        return Signal.of(len(self.layers) - 1, shape, f"layer {layer.name}")

    def _free(self, name: str) -> str:
        """The name, with a number where a neuron is used once more."""
        taken = {layer.name for layer in self.layers}
        return next(each for each in (name, *(f"{name}#{i}" for i in range(2, len(taken) + 3))) if each not in taken)
