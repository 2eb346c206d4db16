"""The plan held against the network it was read from, so that nothing misread reaches a chip.

Neurons are taken out of the way: a copy of the network runs in which every neuron notes what drives it, and sends
random spikes whatever that is, or random numbers where it is graded. All between neurons is linear, so each drive must
be the one that the plan makes of the same spikes; no layer can hide behind one that happens to be silent. What the
neurons do with their drive, `check_output` compares on real data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spikekit.errors import ExportError
from spikekit.export.float_run import margins
from spikekit.export.maximum import largest_sum
from spikekit.export.signal import Signal
from spikekit.export.synapses import INPUT
from spikekit.neurons import Neuron

if TYPE_CHECKING:
    from spikekit.export.float_run import LayerTrace
    from spikekit.export.layers import FloatLayer

# Steps and samples of random spikes; real samples on which the outputs are compared.
_DRAWN = (3, 4)
_COMPARED = 8
_CLOSE = 1e-6

Heard = tuple[str, Neuron | None, "Signal | tuple[Signal, ...]", "Signal | None"]
"""What a layer hears: its name; its neuron, None for max pooling; its drive, of which pooling may have several; what
its astrocyte senses beside it."""


@torch.no_grad()
def check_drives(net: nn.Module, signals: Sequence[Heard], found: Signal, shape: tuple[int, ...]) -> None:
    """Raise ExportError, naming the layer, where a drive in `net` is not the signal that was read.

    signals: of every layer in the order of the forward; found: the output; shape: of a step of a sample.
    """
    draw = torch.Generator().manual_seed(0)
    seen: list[tuple[Tensor, Tensor | None]] = []
    sent: list[Tensor] = []

    def note(drive: Tensor, presynaptic: Tensor | None = None, *, graded: bool) -> Tensor:
        seen.append((drive, presynaptic))
        sent.append((torch.rand(drive.shape, generator=draw) < 0.5).to(drive))
        if graded:
            sent[-1] *= torch.randn(drive.shape, generator=draw).to(drive)
        return sent[-1]

    copy = deepcopy(net).cpu().double().eval()
    for module in copy.modules():
        if isinstance(module, Neuron):
            module.forward = partial(note, graded=module.graded)  # type: ignore[method-assign]
    x = (torch.rand(*_DRAWN, *shape, generator=draw) < 0.5).double()
    output = copy(x)
    spikes, calls = {INPUT: x.flatten(2)}, zip(seen, sent, strict=True)
    for number, (name, neuron, signal, presynaptic) in enumerate(signals):
        if isinstance(signal, tuple):
            spikes[number] = largest_sum({place: _value(each, spikes) for place, each in enumerate(signal)})
            continue
        drive = _value(signal, spikes)
        if neuron is None:
            spikes[number] = (drive > 0.5).to(drive)
        else:
            (found_drive, sensed), answer = next(calls)
            _compare(f"layer {name}: its drive", found_drive, drive)
            if sensed is not None and presynaptic is not None:
                _compare(f"layer {name}: what it senses", sensed, _value(presynaptic, spikes))
            spikes[number] = answer.flatten(2)
    _compare("the output", output, _value(found, spikes))


@torch.no_grad()
def check_output(net: nn.Module, layers: Sequence[FloatLayer], traces: Sequence[LayerTrace], x: Tensor) -> None:
    """Raise ExportError where the plan's output on x [T, B, ...] is not the network's, in float64.

    traces: what the plan did on x.
    """
    few = x[:, :_COMPARED].double()
    expected = deepcopy(net).cpu().double().eval()(few).flatten(2)
    found = (traces[-1].spikes if layers[-1].fires else traces[-1].membranes)[:, :_COMPARED]
    # Where a neuron meets its threshold, the order of a sum decides, and the two may differ by right.
    tied = torch.zeros(few.shape[1], dtype=torch.bool)
    for layer, trace in zip(layers, traces, strict=True):
        if layer.fires:
            tied |= (margins(layer, trace)[:, :_COMPARED] < 1e-9).any(dim=2).any(dim=0)
    _compare("the output", expected[:, ~tied], found[:, ~tied])


def _value(signal: Signal, spikes: Mapping[int, Tensor]) -> Tensor:
    """The signal [T, B, n], where each source sends `spikes`."""
    value = torch.from_numpy(signal.bias).flatten().expand(*_DRAWN, -1)
    for each in signal.projections():
        sent = spikes[each.source]
        value = value + each.synapses.apply(sent.flatten(0, 1)).unflatten(0, sent.shape[:2])
    return value


def _compare(what: str, network: Tensor, plan: Tensor) -> None:
    network = network.flatten(2)
    if network.shape == plan.shape and torch.allclose(network, plan, rtol=_CLOSE, atol=_CLOSE):
        return
    differs = f"by up to {(network - plan).abs().max():.3g}" if network.shape == plan.shape else "in shape"
    raise ExportError(
        f"the plan does not repeat the network: {what} differs {differs}. Something in it, such as a hook or a change "
        "in place, does what its layers alone would not."
    )
