"""Loihi's fixed-point dynamics as Lava 0.10 computes them, batched in torch and exact to the bit.

For a layer with weights W, each time step of every neuron is, in integers:

    a = W·s_in;  u = (a << exponent) << 6          wrapped once into (-2^23, 2^23]
    v = sign(v)·(|v|·(4096 - decay) >> 12) + u + bias,  clipped to ±(2^23 - 1)
    s = v > threshold << 6                          (>= when inclusive)
    v = v - quantum·s | v·(1 - s) | v               soft (clipped as above), hard, no reset

The current keeps nothing from step to step (du = 4095), as in every network that spikekit exports. The tests hold this
file against traces recorded from Lava, and `LoihiNet.verify` against Lava itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.errors import ExportError
from spikekit.export.float_run import LayerTrace
from spikekit.export.quantise import DECAY_ONE, STATE_MAX, STATE_SHIFT, IntegerLayer

_WRAP = 2**23
_SHIFT_LIMIT = 2**25


@torch.no_grad()
def run_integers(layers: Sequence[IntegerLayer], x: Tensor) -> list[LayerTrace]:
    """Run integer layers on x [T, B, ...] of whole numbers; spikes bool, membranes int64, on x's device.

    Raises ExportError for a synaptic sum that Lava's own arithmetic cannot hold.
    """
    activity = x.flatten(2)
    traces = []
    for layer in layers:
        trace = _run_layer(layer, activity)
        traces.append(trace)
        activity = trace.spikes
    return traces


def _run_layer(layer: IntegerLayer, activity: Tensor) -> LayerTrace:
    current = _current(layer, activity)
    device = activity.device
    bias, threshold, quantum, keep = (
        torch.from_numpy(values).to(device)
        for values in (layer.bias, layer.threshold << STATE_SHIFT, layer.quantum, DECAY_ONE - layer.decay)
    )
    spikes = torch.zeros(current.shape, dtype=torch.bool, device=device)
    membranes = torch.empty_like(current)
    v = torch.zeros_like(current[0])
    for t, u in enumerate(current.unbind(0)):
        v = (_decay(v, keep) + u + bias).clamp_(-STATE_MAX, STATE_MAX)
        membranes[t] = v
        if not layer.fires:
            continue
        s = v >= threshold if layer.inclusive else v > threshold
        spikes[t] = s
        if layer.reset == "soft":
            # Only a quantum below 0, which adds, can reach the limit.
            v = (v - quantum * s).clamp_(-STATE_MAX, STATE_MAX)
        elif layer.reset == "hard":
            v = v * ~s
    return LayerTrace(spikes, membranes, v, current.abs().amax((0, 1)))


def _decay(v: Tensor, keep: Tensor) -> Tensor:
    """v·keep / 4096, rounded towards zero."""
    return v.sign() * ((v.abs() * keep) >> 12)


def _current(layer: IntegerLayer, activity: Tensor) -> Tensor:
    """The synaptic current u [T, B, n], int64."""
    largest_input = 1.0 if activity.dtype == torch.bool else float(activity.abs().max())
    # A float sum of whole numbers is exact while it stays within the mantissa, whatever the order of its terms.
    exact32 = 254.0 * layer.synapses.fan_in * max(largest_input, 1.0) < 2**24
    dtype = torch.float32 if exact32 else torch.float64
    a = layer.synapses.apply(activity.flatten(0, 1).to(dtype)).unflatten(0, activity.shape[:2]).to(torch.int64)
    most = int(a.abs().max()) << layer.exponent
    if most >= _SHIFT_LIMIT:
        raise ExportError(
            f"layer {layer.name}: a synaptic sum of {most:,} is beyond 2^25, where Lava's 32-bit shift would lose it. "
            "Send smaller counts, or export with more headroom."
        )
    u = a << (layer.exponent + STATE_SHIFT)
    u = torch.where(u > _WRAP, u - 2 * _WRAP, u)
    return torch.where(u <= -_WRAP, u + 2 * _WRAP, u)
