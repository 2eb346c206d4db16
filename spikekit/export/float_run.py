"""The plan run in float64: what the trained network does, and the judge of Lava's floating-point processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.export.plan import FloatLayer
from spikekit.ops.li.reference import li_reference
from spikekit.ops.lif.reference import LIFRule, lif_reference
from spikekit.surrogate import ATan


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What one layer did, in one sample's own units or in integers.

    spikes [T, B, n]; membranes before the spike decision [T, B, n]; last: membrane after the last step's reset [B, n].
    """

    spikes: Tensor
    membranes: Tensor
    last: Tensor
    peak_drive: Tensor
    """Largest |drive| of each neuron over time and batch [n]."""


@torch.no_grad()
def run_plan(layers: Sequence[FloatLayer], x: Tensor) -> list[LayerTrace]:
    """Run the plan on x [T, B, ...] and return what each layer did, in float64."""
    activity = x.flatten(2).double()
    traces = []
    for layer in layers:
        drive = layer.synapses.apply(activity.flatten(0, 1)).unflatten(0, activity.shape[:2])
        drive += torch.from_numpy(layer.bias).to(drive)
        beta, threshold, quantum = (
            torch.from_numpy(values).to(drive) for values in (layer.beta, layer.threshold, layer.quantum)
        )
        if layer.fires:
            rule = LIFRule(layer.reset, layer.inclusive, detach_reset=True, surrogate=ATan())
            spikes, membranes, last = lif_reference(drive, None, beta, threshold, quantum, rule)
        else:
            membranes = li_reference(drive, None, beta)
            spikes, last = torch.zeros_like(drive), membranes[-1]
        traces.append(LayerTrace(spikes, membranes, last, drive.abs().amax((0, 1))))
        activity = spikes
    return traces
