"""The plan run in float64: what the trained network does, and the judge of Lava's floating-point processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikekit.export.astrocyte import FloatAstrocyte
from spikekit.export.layers import FloatLayer
from spikekit.export.synapses import INPUT, SELF
from spikekit.ops.alif.reference import alif_reference
from spikekit.ops.astrocyte.reference import AstrocyteRule, astrocyte_reference, modulation, sense, spread
from spikekit.ops.li.reference import li_reference
from spikekit.ops.lif.reference import LIFRule, lif_reference
from spikekit.ops.recurrent.reference import recurrent_reference
from spikekit.ops.refractory.reference import refractory_reference
from spikekit.ops.sigma_delta import sigma_delta_reference
from spikekit.surrogate import ATan


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer did, in one sample's own units or in integers.

    spikes [T, B, n], numbers where they are graded; membranes before the spike decision [T, B, n]; last: membrane after
    the last step's reset [B, n]. The membrane of a sigma-delta neuron is its sigma.
    """

    spikes: Tensor
    membranes: Tensor
    last: Tensor
    peak_drive: Tensor
    """Largest |drive| or other state of each neuron over time and batch [n]."""


@torch.no_grad()
def run_plan(layers: Sequence[FloatLayer], x: Tensor) -> list[LayerTrace]:
    """Run the plan on x [T, B, ...] and return what each layer did, in float64."""
    sent, traces = {INPUT: x.flatten(2).double()}, []
    for number, layer in enumerate(layers):
        traces.append(run_layer(layer, sent))
        sent[number] = traces[-1].spikes
    return traces


@torch.no_grad()
def run_layer(layer: FloatLayer, sent: Mapping[int, Tensor]) -> LayerTrace:
    """Run one layer on what its sources send: source -> [T, B, n] in float64."""
    drive, weight = torch.from_numpy(layer.bias * (not layer.graded)).to(sent[INPUT]), None
    for projection in layer.inputs:
        if projection.source == SELF:
            weight = torch.from_numpy(projection.synapses.weight).to(drive)
            continue
        activity = sent[projection.source]
        arriving = projection.synapses.apply(activity.flatten(0, 1)).unflatten(0, activity.shape[:2])
        drive = arriving + drive
    if layer.graded:
        return _run_sigma_delta(layer, drive)
    beta, threshold, quantum = (
        torch.from_numpy(values).to(drive) for values in (layer.beta, layer.threshold, layer.quantum)
    )
    current = drive if layer.alpha is None else li_reference(drive, None, torch.from_numpy(layer.alpha).to(drive))
    if layer.fires:
        rule = LIFRule(layer.reset, layer.inclusive, detach_reset=True, surrogate=ATan())
        settings = (beta, threshold, quantum)
        if layer.rho is not None and layer.step is not None:
            rho, step = (torch.from_numpy(values).to(drive) for values in (layer.rho, layer.step))
            spikes, membranes, _, last, _ = alif_reference(current, None, None, *settings, rho, step, rule)
        elif layer.astrocyte is not None:
            own = (
                None,
                *settings,
                *_numbers(layer.astrocyte, drive),
                rule,
                AstrocyteRule(layer.astrocyte.acts_on, 1.0),
            )
            spikes, membranes, _, last, _ = astrocyte_reference(current, None, None, *own)
        elif layer.period:
            spikes, membranes, _, last, _ = refractory_reference(current, None, None, *settings, layer.period, rule)
        elif weight is None:
            spikes, membranes, last = lif_reference(current, None, beta, threshold, quantum, rule)
        else:
            spikes, membranes, last = recurrent_reference(current, None, None, weight, beta, threshold, quantum, rule)
            drive = drive + F.pad(spikes[:-1], (0, 0, 0, 0, 1, 0)) @ weight.t()
    else:
        membranes = li_reference(current, None, beta)
        spikes, last = torch.zeros_like(drive), membranes[-1]
    peak = torch.maximum(drive.abs().amax((0, 1)), current.abs().amax((0, 1)))
    return LayerTrace(spikes, membranes, last, peak)


def margins(layer: FloatLayer, trace: LayerTrace) -> Tensor:
    """How far each neuron that fires was from its threshold [T, B, n]."""
    reached = trace.membranes
    if layer.activation is not None:
        activity = _activity(layer, reached)
        reached = _changes(activity, trace.spikes).abs()
    threshold = torch.from_numpy(layer.threshold).to(reached)
    if layer.astrocyte is not None and layer.astrocyte.acts_on == "threshold":
        threshold = threshold * (2 - _modulation(layer.astrocyte, trace.spikes))
    return (reached - threshold).abs()


def _numbers(astrocyte: FloatAstrocyte, model: Tensor) -> tuple[Tensor, ...]:
    arrays = (astrocyte.decay, astrocyte.weight, astrocyte.bias, astrocyte.strength)
    return tuple(torch.from_numpy(values).to(model) for values in arrays)


def _modulation(astrocyte: FloatAstrocyte, spikes: Tensor) -> Tensor:
    """The g of every neuron and step [T, B, n], told from the spikes."""
    decay, *others = _numbers(astrocyte, spikes)
    c, found = torch.zeros(spikes.shape[1], *decay.shape).to(spikes), []
    for s in spikes:
        found.append(spread(modulation(c, *others), s))
        c = decay * c + (1 - decay) * sense(s, len(decay), None, 1.0).unsqueeze(-1)
    return torch.stack(found)


def _run_sigma_delta(layer: FloatLayer, drive: Tensor) -> LayerTrace:
    threshold, bias = (torch.from_numpy(values).to(drive) for values in (layer.threshold, layer.bias))
    messages, activity, last, *_ = sigma_delta_reference(
        drive, None, None, None, threshold, bias, str(layer.activation)
    )
    sizes = (drive, activity, _changes(activity, messages))
    peak = torch.stack([size.abs().amax((0, 1)) for size in sizes]).amax(0)
    return LayerTrace(messages, drive.cumsum(0), last, peak)


def _activity(layer: FloatLayer, sigma: Tensor) -> Tensor:
    activity = sigma + torch.from_numpy(layer.bias).to(sigma)
    return torch.relu(activity) if layer.activation == "relu" else activity


def _changes(activity: Tensor, messages: Tensor) -> Tensor:
    """What a sigma-delta neuron holds against its threshold: its activity, less all that it has sent before."""
    return activity - (messages.cumsum(0) - messages)
