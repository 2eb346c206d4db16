"""The plan run in float64: what the trained network does, and the judge of Lava's floating-point processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikekit.export.astrocyte import FloatAstrocyte
from spikekit.export.layers import FloatLayer
from spikekit.export.maximum import largest_sum
from spikekit.export.signal import Floats
from spikekit.export.synapses import INPUT, MAXIMUM, SELF, counted
from spikekit.ops.alif.reference import alif_reference
from spikekit.ops.astrocyte.reference import AstrocyteRule, astrocyte_reference, modulation, spread
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
    the last step's reset [B, n]. The membrane of a sigma-delta neuron is its sigma; of one that sends a maximum, that
    maximum.
    """

    spikes: Tensor
    membranes: Tensor
    last: Tensor
    peak_drive: Tensor
    """Largest |drive| or other state of each neuron over time and batch [n]."""
    levels: Tensor | None = None
    """Thresholds that spikes or astrocytes moved [T, B, n]; None where they stay."""


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
    if layer.activation == MAXIMUM:
        return _run_maximum(layer, sent)
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
    levels = None
    current = drive if layer.alpha is None else li_reference(drive, None, torch.from_numpy(layer.alpha).to(drive))
    if layer.astrocyte is not None:
        return _run_modulated(layer, layer.astrocyte, drive, counted(layer.senses, sent, drive.dtype))
    if layer.fires:
        rule = LIFRule(layer.reset, layer.inclusive, detach_reset=True, surrogate=ATan())
        settings = (beta, threshold, quantum)
        if layer.rho is not None and layer.step is not None:
            rho, step = (torch.from_numpy(values).to(drive) for values in (layer.rho, layer.step))
            spikes, membranes, adapted, last, _ = alif_reference(current, None, None, *settings, rho, step, rule)
            levels = threshold + step * torch.cat((torch.zeros_like(adapted[:1]), adapted[:-1]))
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
    return LayerTrace(spikes, membranes, last, peak, levels)


def margins(layer: FloatLayer, trace: LayerTrace) -> Tensor:
    """How far each neuron that fires was from its threshold [T, B, n]."""
    reached = trace.membranes
    if layer.activation == MAXIMUM:
        # It decides nothing.
        return torch.full_like(reached, torch.inf)
    if layer.activation is not None:
        activity = _activity(layer, reached)
        reached = _changes(activity, trace.spikes).abs()
    level = torch.from_numpy(layer.threshold).to(reached) if trace.levels is None else trace.levels
    return (reached - level).abs()


def _run_modulated(layer: FloatLayer, own: FloatAstrocyte, drive: Tensor, heard: Tensor | None) -> LayerTrace:
    def tensors(*arrays: Floats) -> list[Tensor]:
        return [torch.from_numpy(values).to(drive) for values in arrays]

    beta, threshold, quantum = tensors(layer.beta, layer.threshold, layer.quantum)
    decay, weight, bias, strength = tensors(own.decay, own.weight, own.bias, own.strength)
    # A sum of spikes is whole: the mean is rounded as it is in the network.
    sensed = None if heard is None else heard * (1 / own.heard)
    neuron, astrocyte = (beta, threshold, quantum), (decay, weight, bias, strength)
    rule = LIFRule(layer.reset, layer.inclusive, detach_reset=True, surrogate=ATan())
    spikes, membranes, calcium, last, _ = astrocyte_reference(
        drive, None, None, sensed, *neuron, *astrocyte, rule, AstrocyteRule(own.acts_on, own.own)
    )
    before = torch.cat((torch.zeros_like(calcium[:1]), calcium[:-1]))
    g = torch.stack([spread(each, spikes[0]) for each in modulation(before, weight, bias, strength)])
    if own.acts_on == "threshold":
        return LayerTrace(spikes, membranes, last, drive.abs().amax((0, 1)), threshold * (2 - g))
    return LayerTrace(spikes, membranes, last, torch.maximum(drive.abs(), (g * drive).abs()).amax((0, 1)))


def _run_sigma_delta(layer: FloatLayer, drive: Tensor) -> LayerTrace:
    threshold, bias = (torch.from_numpy(values).to(drive) for values in (layer.threshold, layer.bias))
    messages, activity, last, *_ = sigma_delta_reference(
        drive, None, None, None, threshold, bias, str(layer.activation)
    )
    sizes = (drive, activity, _changes(activity, messages))
    peak = torch.stack([size.abs().amax((0, 1)) for size in sizes]).amax(0)
    return LayerTrace(messages, drive.cumsum(0), last, peak)


def _run_maximum(layer: FloatLayer, sent: Mapping[int, Tensor]) -> LayerTrace:
    sums: dict[int, Tensor] = {}
    for each in layer.inputs:
        activity = sent[each.source]
        arriving = each.synapses.apply(activity.flatten(0, 1)).unflatten(0, activity.shape[:2])
        sums[each.dendrite] = arriving + sums[each.dendrite] if each.dendrite in sums else arriving
    drive = largest_sum(sums)
    messages = drive + torch.from_numpy(layer.bias).to(drive)
    return LayerTrace(messages, messages, messages[-1], torch.maximum(drive.abs(), messages.abs()).amax((0, 1)))


def _activity(layer: FloatLayer, sigma: Tensor) -> Tensor:
    activity = sigma + torch.from_numpy(layer.bias).to(sigma)
    return torch.relu(activity) if layer.activation == "relu" else activity


def _changes(activity: Tensor, messages: Tensor) -> Tensor:
    """What a sigma-delta neuron holds against its threshold: its activity, less all that it has sent before."""
    return activity - (messages.cumsum(0) - messages)
