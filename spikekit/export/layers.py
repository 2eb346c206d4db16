"""One layer of the plan in float64, and how a neuron's module becomes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spikekit.errors import ExportError, InputError
from spikekit.export.astrocyte import FloatAstrocyte
from spikekit.export.astrocyte_reading import astrocyte_of
from spikekit.export.signal import Floats, Signal
from spikekit.export.synapses import SELF, Projection, Synapses
from spikekit.folding import folded_thresholds
from spikekit.neurons import ALIF, CUBALIF, LI, LIF, FoldedLIF, Neuron, RecurrentLIF, RefractoryLIF, SigmaDelta
from spikekit.neurons.firing import FiringNeuron
from spikekit.neurons.parameters import broadcast, read_parameter


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """One layer of the plan. Arrays hold one float64 a neuron [n]; `fires` is False for an LI readout.

    inputs: what drives it; the drive is their sum and the bias. alpha: decay of the synaptic current, which then holds
    the bias too; None without one. threshold: not above 0 where a folded norm lets the neuron
    fire from rest. quantum: what soft reset subtracts; below 0 where a folded norm
    turned the neuron around. rho, step: decay of an adaptive threshold and what a spike adds to it, None without one.
    period: steps after a spike in which the neuron is refractory. activation: "relu" or "none" of sigma-delta neurons,
    whose bias is that of the activation; `MAXIMUM` of those that send the largest of their sums, to which the bias is
    added; None for others, whose bias is part of the drive. astrocyte: what modulates the neurons, None without one;
    senses: the presynaptic spikes that it counts, onto its domains.
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
    activation: str | None = None
    astrocyte: FloatAstrocyte | None = None
    senses: tuple[Projection, ...] = ()

    @property
    def graded(self) -> bool:
        """Whether it sends numbers in place of spikes."""
        return self.activation is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its neurons."""
        return self.inputs[0].synapses.out_shape

    @property
    def rows(self) -> int:
        """Number of neurons, or of groups of neighbours, that can have a scale of their own."""
        return int(np.gcd.reduce([projection.synapses.rows for projection in self.inputs]))


def layer_of(name: str, neuron: Neuron, signal: Signal, presynaptic: Signal | None = None) -> FloatLayer:
    """The layer of `neuron` driven by `signal`; presynaptic: what its astrocyte is given to sense.

    Raises ExportError, naming it, for what no layer can be.
    """
    inputs, shape, bias = signal.projections(), signal.shape, signal.bias.flatten()

    def per_neuron(what: str, value: Tensor) -> Floats:
        shaped = broadcast(neuron, what, value.detach().cpu(), torch.empty(1, 1, *shape, device="meta"))
        return np.broadcast_to(shaped.double().numpy(), shape).flatten()

    if isinstance(neuron, SigmaDelta):
        return _sigma_delta(name, neuron, signal, per_neuron)
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
    astrocyte, senses = astrocyte_of(name, neuron, shape, presynaptic)
    return FloatLayer(
        name, inputs, bias, alpha, beta, level, quantum, reset, neuron.rule.inclusive, True, rho, step, period,
        astrocyte=astrocyte, senses=senses,
    )  # fmt: skip


def _sigma_delta(
    name: str, neuron: SigmaDelta, signal: Signal, per_neuron: Callable[[str, Tensor], Floats]
) -> FloatLayer:
    if signal.bias.any():
        raise ExportError(
            f"layer {name} (SigmaDelta): what drives it holds a constant, which it would add up anew in every step. "
            "Give the layer in front no bias (bias=False) and no norm, and the neuron SigmaDelta(bias=...)"
        )
    bias, threshold = (per_neuron(what, read_parameter(neuron, what)) for what in ("bias", "threshold"))
    nothing = np.zeros_like(bias)
    return FloatLayer(
        name, signal.projections(), bias, None, nothing, threshold, nothing, "none", inclusive=True, fires=True,
        activation=neuron.activation,
    )  # fmt: skip


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
