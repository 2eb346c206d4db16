"""Exported networks as the HDF5 files of lava-dl's netx (`lava.lib.dl.netx.hdf5.Network`, lava-dl 0.6.0).

The format knows chains of dense and convolution layers of Lava's own LIF: hard reset, u > threshold, one threshold and
decay a layer, no exponent of the weights, biases in steps of 64 units. `to_loihi(..., target="netx")` quantises for
just that, and everything else is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikekit.errors import ExportError, require
from spikekit.export.integer_layer import NETX_BIAS_EXPONENT, IntegerLayer
from spikekit.export.synapses import INPUT, Synapses
from spikekit.files import replacing

if TYPE_CHECKING:
    from spikekit.export.network import LoihiNet

# A membrane of 24 bits never exceeds 2^17 << 6.
_NEVER = 2**17


def write_netx(chip: LoihiNet, path: str | Path) -> Path:
    """Write `chip` for netx in one step; see `LoihiNet.to_netx`."""
    h5py = require("h5py", "nir")
    path = Path(path)
    for number, layer in enumerate(chip.layers):
        _check(number, layer, last=number == len(chip.layers) - 1)
    # h5py reports a full disk as a RuntimeError at times.
    with replacing(path, ExportError, RuntimeError) as temporary, h5py.File(temporary, "w") as file:
        _Writer(file, chip.in_shape).layers(chip.layers)
    return path


class _Writer:
    """Numbers the groups: a flatten between an image and a dense layer is one of its own."""

    def __init__(self, file: Any, shape: tuple[int, ...]) -> None:
        self.root, self.count = file.create_group("layer"), 0
        self._group("input", shape)
        self.shape = shape

    def layers(self, layers: tuple[IntegerLayer, ...]) -> None:
        for layer in layers:
            (only,) = layer.inputs
            if only.synapses.kind == "dense" and len(self.shape) > 1:
                self._group("flatten", (only.synapses.n_in,))
            if only.synapses.kind == "conv" and only.synapses.in_shape != self.shape:
                raise ExportError(f"layer {layer.name}: netx cannot unflatten {self.shape} to {only.synapses.in_shape}")
            self._layer(layer, only.synapses)

    def _group(self, kind: str, shape: tuple[int, ...]) -> Any:
        group = self.root.create_group(str(self.count))
        self.count += 1
        group["type"] = np.array([kind.encode()])
        # netx turns (C, H, W) around; a flat shape is one number.
        group["shape"] = np.array(shape)
        return group

    def _layer(self, layer: IntegerLayer, synapses: Synapses) -> None:
        # Neurons behind a Flatten are those of an image all the same.
        self.shape = (synapses.rows, *synapses.image) if synapses.kind == "conv" else layer.shape
        group = self._group(synapses.kind, self.shape)
        group["weight"] = np.asarray(synapses.weight, np.int64)
        if synapses.kind == "conv":
            for name, value in (("stride", synapses.stride), ("padding", synapses.padding)):
                group[name] = np.array(value)
            group["dilation"], group["groups"] = np.array(synapses.dilation), synapses.groups
        if layer.bias_mantissa.any():
            # One a channel, as netx gives them to an image.
            group["bias"] = layer.bias_mantissa.reshape(synapses.rows, -1)[:, 0]
        neuron = group.create_group("neuron")
        neuron["type"] = np.array([b"CUBA"])
        neuron["vThMant"] = int(layer.threshold[0]) if layer.fires else _NEVER
        neuron["iDecay"] = 4096 if layer.current_decay is None else int(layer.current_decay[0]) + 1
        neuron["vDecay"] = int(layer.decay[0])
        neuron["refDelay"], neuron["gradedSpike"] = 1, False


def _check(number: int, layer: IntegerLayer, last: bool) -> None:
    for found, reason, way in _reasons(number, layer, last):
        if found:
            raise ExportError(f"layer {layer.name}: netx {reason}. {way}.")


def _reasons(number: int, layer: IntegerLayer, last: bool) -> Iterator[tuple[bool, str, str]]:
    """Whatever the format has no place for: whether it is there, in words, and the way out."""
    fires, again = layer.fires, 'Export with to_loihi(..., target="netx")'
    yield layer.graded, "knows LIF neurons, and none that send numbers", "Run it on Lava"
    sources, before = [each.source for each in layer.inputs], number - 1 if number else INPUT
    yield sources != [before], f"knows chains alone, and its inputs are {sources}", "Save it as .npz, or run it on Lava"
    kinds = {each.synapses.kind for each in layer.inputs}
    yield "sparse" in kinds, "has no single synapses", "Use strided convolutions in place of pooling and upsampling"
    way = 'Train with reset="hard", or run it on Lava, where soft reset is proven'
    yield fires and layer.reset != "hard", f"resets neurons to zero, not {layer.reset!r}", way
    yield fires and layer.inclusive, "fires neurons above their threshold, not at it", "Train with inclusive=False"
    low = fires and bool((layer.threshold < 0).any())
    yield low, "has no thresholds below 0", "Train with a smaller bias of the norm"
    yield not (fires or last), "has readouts in the last place alone", "Put the LI last"
    more = layer.adapt_decay is not None or layer.period > 0
    yield more, "has neither adaptive thresholds nor refractory periods", "Run it on Lava"
    yield layer.astrocyte is not None, "has no astrocytes over neurons", "Run it on Lava, where they are proven"
    shifted = layer.exponent != 0 or any(each.shift for each in layer.inputs)
    yield shifted, "has no exponent of weights", again
    odd = bool((layer.bias_exponent != NETX_BIAS_EXPONENT).any())
    yield odd, f"shifts every bias by {NETX_BIAS_EXPONENT} bits", again
    for what in ("threshold", "decay", "current_decay"):
        values = getattr(layer, what)
        many = values is not None and (fires or what != "threshold") and len(np.unique(values)) > 1
        yield many, f"keeps one {what} a layer", again if what == "threshold" else "Train with one for all"
    per_row = layer.bias_mantissa.reshape(layer.inputs[0].synapses.rows, -1)
    several = bool((per_row != per_row[:, :1]).any())
    yield several, "keeps one bias a channel", "Put batch normalisation behind convolutions"
    kept = layer.current_decay is not None and bool(layer.bias_mantissa.any())
    yield kept, "adds a bias to the membrane, not to the current", "Train this layer without a bias"
