"""The export plan: a trained network as layers of neurons and the synapses between them, in float64.

What lies between neurons is read into synapses (`reader.py`, `signal.py`), batch normalisation included. A norm of a
membrane becomes thresholds, and max pooling of spikes a layer of neurons of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError
from spikekit.export.pooling import maximum_pool
from spikekit.export.reader import read
from spikekit.export.signal import Floats, Signal
from spikekit.export.synapses import INPUT, SELF, Projection, Synapses
from spikekit.folding import folded_thresholds
from spikekit.neurons import ALIF, CUBALIF, LI, LIF, FoldedLIF, Neuron, RecurrentLIF, RefractoryLIF
from spikekit.neurons.firing import FiringNeuron
from spikekit.neurons.parameters import broadcast, read_parameter


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """One layer of the plan. Arrays hold one float64 a neuron [n]; `fires` is False for an LI readout.

    inputs: what drives it; the drive is their sum and the bias. alpha: decay of the synaptic current, which then holds
    the bias too; None without one. threshold: not above 0 where a folded norm lets the neuron
    fire from rest. quantum: what soft reset subtracts; below 0 where a folded norm
    turned the neuron around. rho, step: decay of an adaptive threshold and what a spike adds to it, None without one.
    period: steps after a spike in which the neuron is refractory.
    """

    name: str
    inputs: tuple[Projection, ...]
    bias: Floats
    alpha: Floats | None
    beta: Floats
    threshold: Floats
    quantum: Floats
    reset: str
    inclusive: bool
    fires: bool
    rho: Floats | None = None
    step: Floats | None = None
    period: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its neurons."""
        return self.inputs[0].synapses.out_shape

    @property
    def rows(self) -> int:
        """Number of neurons, or of groups of neighbours, that can have a scale of their own."""
        return int(np.gcd.reduce([projection.synapses.rows for projection in self.inputs]))


@dataclass(frozen=True, eq=False)
class Plan:
    """The layers in the order of the data, the last one the output; neurons: the modules that they were read from."""

    layers: tuple[FloatLayer, ...]
    neurons: Mapping[str, Neuron]


def plan(net: nn.Module, sample: Tensor) -> Plan:
    """Read a network.

    net: `sk.Sequential` and modules with a forward of their own, nested as they like, in eval mode, or what `sk.fold`
    made of them: Conv2d, Linear, BatchNorm, pooling by averages, max pooling of spikes, Upsample by repeating, Flatten,
    Dropout, sums, concatenation, and our LIF, IF, LI, CUBALIF, RecurrentLIF, ALIF, RefractoryLIF. An LIF's norm becomes
    thresholds; a neuron that fires below its threshold gets the opposite of its weights, bias, threshold and soft
    reset's quantum.
    sample: any valid input [T, B, ...], for its shape. Raises ExportError with the reason and the way out
    for anything else, before anything is written.
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
    return _needed(planner, last.source)


def _needed(planner: _Planner, output: int) -> Plan:
    """The layers that the output depends on, numbered anew; the output comes last."""
    wanted, pending = set[int](), [output]
    while pending:
        at = pending.pop()
        if at not in wanted and at >= 0:
            wanted.add(at)
            pending += [projection.source for projection in planner.layers[at].inputs]
    number = {old: new for new, old in enumerate(sorted(wanted))} | {INPUT: INPUT, SELF: SELF}
    layers = tuple(
        replace(layer, inputs=tuple(replace(p, source=number[p.source]) for p in layer.inputs))
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

    def fire(self, name: str, neuron: Neuron, signal: Signal) -> Signal:
        """A layer of `neuron` driven by `signal`."""
        self.refuse_silent(signal)
        name = self._free(name)
        self.neurons[name] = neuron
        return self._append(_layer(name, neuron, signal), signal.shape)

    def maximum(self, name: str, pool: nn.MaxPool2d, signal: Signal) -> Signal:
        """Max pooling of spikes: a neuron that fires in every step in which any of its window does."""
        self.refuse_silent(signal)
        name = self._free(name)
        if not signal.bare() or any(term.source == INPUT for term in signal.terms):
            raise ExportError(
                f"layer {name} (MaxPool2d): only spikes have a maximum that neurons can tell. Put it directly behind a "
                "neuron, or use a strided convolution"
            )
        terms = [term.behind(f"layer {name}", maximum_pool(pool, term.shape), term.offset) for term in signal.terms]
        shape = (signal.shape[0], *terms[0].shape[1:])
        pooled = Signal(shape, tuple(terms), np.zeros(shape), f"layer {name}")
        n = prod(shape)
        layer = FloatLayer(
            name, pooled.projections(), np.zeros(n), None, np.zeros(n), np.full(n, 0.5), np.full(n, 0.5), "hard",
            inclusive=False, fires=True,
        )  # fmt: skip
        return self._append(layer, shape)

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


def _layer(name: str, neuron: Neuron, signal: Signal) -> FloatLayer:
    inputs, shape, bias = signal.projections(), signal.shape, signal.bias.flatten()

    def per_neuron(what: str, value: Tensor) -> Floats:
        shaped = broadcast(neuron, what, value.detach().cpu(), torch.empty(1, 1, *shape, device="meta"))
        return np.broadcast_to(shaped.double().numpy(), shape).flatten()

    beta = per_neuron("beta", read_parameter(neuron, "beta"))
    if isinstance(neuron, LI):
        ones = np.ones_like(beta)
        return FloatLayer(name, inputs, bias, None, beta, ones, ones, "none", False, fires=False)
    if not isinstance(neuron, (FiringNeuron, FoldedLIF)):
        raise ExportError(f"layer {name} ({type(neuron).__name__}) is no neuron that can be exported")
    alpha = per_neuron("alpha", read_parameter(neuron, "alpha")) if isinstance(neuron, CUBALIF) else None
    if isinstance(neuron, RecurrentLIF):
        own = _recurrent(name, neuron, signal)
        inputs, bias = (*inputs, own[0]), bias + own[1]
    level, sign, quantum = (per_neuron("threshold", value) for value in _decision(name, neuron))
    reset = neuron.rule.reset
    if (sign < 0).any():
        # The chip knows ">" alone: u < θ is -u > -θ, so what drives and resets these neurons changes sign.
        inputs = tuple(replace(each, synapses=each.synapses.scaled(sign)) for each in inputs)
        bias, level = bias * sign, level * sign
        quantum = quantum * sign if reset == "soft" else quantum
    adapts = isinstance(neuron, ALIF)
    rho, step = (per_neuron(what, read_parameter(neuron, what)) if adapts else None for what in ("rho", "step"))
    period = neuron.period if isinstance(neuron, RefractoryLIF) else 0
    return FloatLayer(
        name, inputs, bias, alpha, beta, level, quantum, reset, neuron.rule.inclusive, True, rho, step, period
    )


def _recurrent(name: str, neuron: RecurrentLIF, signal: Signal) -> tuple[Projection, Floats]:
    if signal.shape != (neuron.features,):
        raise ExportError(
            f"layer {name} ({neuron.features} neurons) sees the shape {signal.shape}; put nn.Flatten there"
        )
    weight, bias = neuron.recurrent.weight.detach().double().cpu().numpy(), neuron.recurrent.bias
    if not np.isfinite(weight).all():
        raise ExportError(f"layer {name}: its recurrent weight holds NaN or Inf; was the training stable?")
    own = np.zeros(len(weight)) if bias is None else bias.detach().double().cpu().numpy()
    return Projection(SELF, Synapses("dense", weight, signal.shape, signal.shape)), own


def _decision(name: str, neuron: FiringNeuron | FoldedLIF) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold on u, direction (-1: fires below it) and reset quantum, in float64."""
    if isinstance(neuron, FoldedLIF):
        return neuron.threshold.double(), neuron.sign.double(), neuron.quantum.double()
    quantum = neuron._tensors()["reset_quantum"].double()
    if not isinstance(neuron, LIF):
        level = read_parameter(neuron, "threshold").double()
        return level, torch.ones_like(level), quantum
    try:
        level, sign = folded_thresholds(name, neuron)
    except InputError as error:
        raise ExportError(str(error)) from error
    return level, sign, quantum
