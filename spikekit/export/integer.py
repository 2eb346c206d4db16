"""An integer network as Lava 0.10 computes it, batched in torch and exact to the bit: synapses, then neurons.

The neuron is `spikekit.ops.integer`. Its input is a sum of whole numbers, which floating point holds exactly while it
stays within the mantissa, whatever the order of its terms: so the fast paths of linear and convolution layers serve,
event by event where few neurons fire. The tests hold this file against traces recorded from Lava, and `LoihiNet.verify`
against Lava itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spikekit.errors import ExportError
from spikekit.export.float_run import LayerTrace
from spikekit.export.inputs import largest
from spikekit.export.integer_layer import DECAY_ONE, IntegerLayer
from spikekit.export.maximum import largest_sum, maximum_integer
from spikekit.export.synapses import INPUT, MAXIMUM, SELF, Projection, counted
from spikekit.ops.alif.integer import alif_integer
from spikekit.ops.astrocyte.integer import Modulator, astrocyte_integer
from spikekit.ops.integer import STATE_SHIFT, IntegerRule, integer_lif
from spikekit.ops.refractory.integer import refractory_integer
from spikekit.ops.sigma_delta import SigmaDeltaRule, sigma_delta_integer

# Beyond these a shift of 32 bits would lose the sum of a step; a current that is kept takes one bit more.
_SHIFT_LIMIT = 2**25
_KEPT_LIMIT = 2**24
# Bytes of one layer's activity in a piece of the batch: it bounds the memory, and some of it is in cache when the next
# layer reads it. From 4 to 16 MiB one thread is as fast; several meet less often in large pieces.
_PIECE = 1 << 24


@torch.no_grad()
def run_integers(layers: Sequence[IntegerLayer], x: Tensor) -> list[LayerTrace]:
    """Run integer layers on x [T, B, ...] of whole numbers, on x's device; spikes bool, or int32 where they are
    graded, membranes int64.

    Raises ExportError for a synaptic sum that Lava's own arithmetic cannot hold.
    """
    sent, traces = {INPUT: x.flatten(2)}, []
    for number, layer in enumerate(layers):
        sums = arriving(layer, sent)
        spikes, membranes, last = fire(layer, sums, sent)
        sent[number] = spikes.flatten(2)
        peak = sums.abs().amax((0, 1)).flatten().to(torch.int64) << (layer.exponent + layer.state_shift)
        given = sent[number].to(torch.int32 if layer.graded else torch.bool)
        traces.append(LayerTrace(given, membranes.flatten(2).long(), last.flatten(1).long(), peak))
    return traces


@torch.no_grad()
def run_last(layers: Sequence[IntegerLayer], x: Tensor) -> Tensor:
    """Spikes of the last layer on x [T, B, ...], or the membranes of a readout, [T, B, n]; nothing else is kept.

    Spikes are floating point, membranes int32. Raises what `run_integers` raises.
    """
    widest = max(max(p.synapses.n_in, p.synapses.n_out) for layer in layers for p in layer.inputs)
    samples = max(1, _PIECE // (4 * len(x) * widest)) if x.device.type == "cpu" else x.shape[1]
    last_use = {p.source: number for number, layer in enumerate(layers) for p in (*layer.inputs, *layer.senses)}
    outputs = []
    for piece in x.split(samples, dim=1):
        sent = {INPUT: piece.contiguous()}
        for number, layer in enumerate(layers):
            sums = arriving(layer, sent)
            spikes, membranes, _ = fire(layer, sums, sent, membranes=not layer.fires)
            sent = {source: kept for source, kept in sent.items() if last_use.get(source, -1) > number}
            sent[number] = spikes if layer.fires else membranes
        outputs.append(sent[len(layers) - 1].flatten(2))
    return torch.cat(outputs, dim=1)


def arriving(layer: IntegerLayer, sent: Mapping[int, Tensor], weights: Sequence[Tensor | None] | None = None) -> Tensor:
    """The sums of weights that arrive from other layers [T, B, *shape], in units of exponent 0, float32 or float64.

    sent: what each source sends, [T, B, ...]; spikes are 0 and 1, and not looked at. weights: used instead of
    the inputs' own, so that a gradient may pass through them. Of neurons with several dendrites the largest sum.
    """
    most = 0
    for projection in layer.inputs:
        numbers = projection.source == INPUT or projection.grain is not None
        counts = largest(sent[projection.source].detach()) if numbers else 1
        most += max(counts, 1) * _most(projection)
    dtype, by_dendrite = torch.float32 if most < 2**24 else torch.float64, dict[int, Tensor]()
    for number, projection in enumerate(layer.inputs):
        if projection.source == SELF:
            continue
        activity, weight = sent[projection.source], None if weights is None else weights[number]
        sums = projection.synapses.sums(activity.flatten(0, 1).to(dtype), weight).unflatten(0, activity.shape[:2])
        sums = sums * 2.0**projection.shift if projection.shift else sums
        before = by_dendrite.get(projection.dendrite)
        by_dendrite[projection.dendrite] = sums if before is None else before + sums
    if not by_dendrite:
        raise ExportError(f"layer {layer.name} has no input but its own spikes")
    total = largest_sum(by_dendrite)
    limit = _SHIFT_LIMIT if layer.current_decay is None else _KEPT_LIMIT
    if most * 2.0**layer.exponent >= limit:
        feedback = sum(_most(p) for p in layer.inputs if p.source == SELF)
        reached = (int(total.detach().abs().max()) + feedback) << layer.exponent
        if reached >= limit:
            raise ExportError(
                f"layer {layer.name}: a synaptic sum of {reached:,} is beyond 2^{limit.bit_length() - 1}, where Lava's "
                "32-bit shift would lose it. Send smaller numbers, or export with more headroom."
            )
    return total


def fire(
    layer: IntegerLayer, sums: Tensor, sent: Mapping[int, Tensor] | None = None, *, membranes: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes (empty unless asked for) and last membranes of the layer's neurons: see `integer_lif`.

    sent: as for `arriving`, where an astrocyte senses it. Of sigma-delta neurons messages, and sigma in place of the
    membrane: see `sigma_delta_integer`; for those that send a maximum, `maximum_integer`.
    """

    def shaped(values: object) -> Tensor:
        return torch.as_tensor(values).to(sums.device).reshape(sums.shape[2:])

    bias, threshold = shaped(layer.bias), shaped(layer.level)
    if layer.activation == MAXIMUM:
        messages, state = maximum_integer(sums, bias, shaped(layer.message_shift), layer.exponent, layer.largest)
        return messages, state, state[-1]
    if layer.activation is not None:
        graded = SigmaDeltaRule(layer.exponent, layer.activation, layer.largest)
        messages, sigma, *_ = sigma_delta_integer(sums, bias, threshold, shaped(layer.message_shift), graded)
        return messages, sigma, sigma[-1]
    keep, quantum = shaped(DECAY_ONE - layer.decay), shaped(layer.quantum)
    # The operator shifts by STATE_SHIFT on top.
    exponent = layer.exponent + layer.state_shift - STATE_SHIFT
    rule = IntegerRule(exponent, layer.reset, layer.inclusive, layer.fires)
    if layer.adapt_decay is not None and layer.adapt_step is not None:
        adaptation = (shaped(DECAY_ONE - layer.adapt_decay), shaped(layer.adapt_step))
        return alif_integer(sums, bias, keep, threshold, quantum, *adaptation, rule)[:3]
    if layer.period:
        period = torch.tensor(layer.period, device=sums.device)
        return refractory_integer(sums, bias, keep, threshold, quantum, period, rule)[:3]
    if (own := layer.astrocyte) is not None:
        arrays = (torch.from_numpy(each).to(sums.device) for each in (own.decay, own.weight, own.offset, own.table))
        modulator = Modulator(own.acts_on, own.share, own.heard_share, *arrays)
        heard = counted(layer.senses, sent or {}, sums.dtype)
        return astrocyte_integer(sums, bias, keep, threshold, quantum, modulator, rule, heard)[:3]
    kept = None if layer.current_decay is None else shaped(DECAY_ONE - 1 - layer.current_decay)
    feedback = next((p for p in layer.inputs if p.source == SELF), None)
    return integer_lif(
        sums,
        bias,
        keep,
        threshold,
        quantum,
        rule,
        keep_current=kept,
        recurrent=None if feedback is None else lambda spikes: _back(feedback, spikes),
        membranes=membranes,
    )


def _back(projection: Projection, spikes: Tensor) -> Tensor:
    """What spikes [B, ...] of a layer bring to itself."""
    return projection.synapses.sums(spikes) * 2.0**projection.shift


def _most(projection: Projection) -> int:
    return projection.synapses.most << projection.shift
