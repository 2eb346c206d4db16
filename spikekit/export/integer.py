"""An integer network as Lava 0.10 computes it, batched in torch and exact to the bit: synapses, then neurons.

The neuron is `spikekit.ops.integer`. Its input is a sum of whole numbers, which floating point holds exactly while it
stays within the mantissa, whatever the order of its terms: so the fast paths of linear and convolution layers serve,
event by event where few neurons fire. The current keeps nothing from step to step (du = 4095), as in every network that
spikekit exports. The tests hold this file against traces recorded from Lava, and `LoihiNet.verify` against Lava itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.errors import ExportError
from spikekit.export.float_run import LayerTrace
from spikekit.export.quantise import DECAY_ONE, IntegerLayer
from spikekit.ops.integer import STATE_SHIFT, IntegerRule, integer_lif, wrapped

_SHIFT_LIMIT = 2**25
# Bytes of one layer's activity in a piece of the batch: it bounds the memory, and some of it is in cache when the next
# layer reads it. From 4 to 16 MiB one thread is as fast; several meet less often in large pieces.
_PIECE = 1 << 24


@torch.no_grad()
def run_integers(layers: Sequence[IntegerLayer], x: Tensor) -> list[LayerTrace]:
    """Run integer layers on x [T, B, ...] of whole numbers; spikes bool, membranes int64, on x's device.

    Raises ExportError for a synaptic sum that Lava's own arithmetic cannot hold.
    """
    activity, traces = x.flatten(2), []
    for i, layer in enumerate(layers):
        sums = arriving(layer, activity, binary=i > 0)
        spikes, membranes, last = fire(layer, sums)
        activity = spikes.flatten(2)
        current = currents(layer, sums).abs().amax((0, 1)).flatten()
        traces.append(LayerTrace(activity.bool(), membranes.flatten(2).long(), last.flatten(1).long(), current))
    return traces


@torch.no_grad()
def run_last(layers: Sequence[IntegerLayer], x: Tensor) -> Tensor:
    """Spikes of the last layer on x [T, B, ...], or the membranes of a readout, [T, B, n]; nothing else is kept.

    Spikes are floating point, membranes int32. Raises what `run_integers` raises.
    """
    widest = max(max(layer.synapses.n_in, layer.synapses.n_out) for layer in layers)
    samples = max(1, _PIECE // (4 * len(x) * widest)) if x.device.type == "cpu" else x.shape[1]
    outputs = []
    for piece in x.split(samples, dim=1):
        activity = piece.contiguous()
        for i, layer in enumerate(layers):
            sums = arriving(layer, activity, binary=i > 0)
            spikes, membranes, _ = fire(layer, sums, membranes=not layer.fires)
            activity = spikes if layer.fires else membranes
        outputs.append(activity.flatten(2))
    return torch.cat(outputs, dim=1)


def arriving(layer: IntegerLayer, activity: Tensor, weight: Tensor | None = None, *, binary: bool = False) -> Tensor:
    """The sums of weights that arrive [T, B, *out_shape], float32 or float64, of activity [T, B, ...] before the layer.

    weight: the layer's own as a tensor, through which a gradient is to pass. binary: the activity is known to be 0 and
    1, and not looked at.
    """
    largest = 1.0 if binary or activity.dtype == torch.bool else float(activity.detach().abs().max())
    most = layer.synapses.most * max(largest, 1.0)
    dtype = torch.float32 if most < 2**24 else torch.float64
    sums = layer.synapses.sums(activity.flatten(0, 1).to(dtype), weight).unflatten(0, activity.shape[:2])
    if most * 2.0**layer.exponent >= _SHIFT_LIMIT:
        reached = int(sums.detach().abs().max()) << layer.exponent
        if reached >= _SHIFT_LIMIT:
            raise ExportError(
                f"layer {layer.name}: a synaptic sum of {reached:,} is beyond 2^25, where Lava's 32-bit shift would "
                "lose it. Send smaller counts, or export with more headroom."
            )
    return sums


def fire(layer: IntegerLayer, sums: Tensor, *, membranes: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes (empty unless asked for) and last membranes of the layer's neurons: see `integer_lif`."""
    bias, keep, threshold, quantum = (
        torch.from_numpy(values).to(sums.device).reshape(sums.shape[2:])
        for values in (layer.bias, DECAY_ONE - layer.decay, layer.threshold << STATE_SHIFT, layer.quantum)
    )
    rule = IntegerRule(layer.exponent, layer.reset, layer.inclusive, layer.fires)
    return integer_lif(sums, bias, keep, threshold, quantum, rule, membranes=membranes)


def currents(layer: IntegerLayer, sums: Tensor) -> Tensor:
    """The synaptic current u that sums make, int64."""
    return wrapped(sums.to(torch.int64) << (layer.exponent + STATE_SHIFT))
