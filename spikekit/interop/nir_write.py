"""NIR, written: the Neuromorphic Intermediate Representation (Pedersen et al. 2024), with no reset lost.

NIR's neurons live in continuous time, tau dv/dt = (v_leak - v) + R I, fire at v > v_threshold and reset to a value. One
Euler step of `dt` makes v = (1 - dt/tau) v + (R dt/tau) I, so an LIF is written with tau = dt / (1 - beta) and
R = tau / dt; an IF, dv/dt = R I, with R = 1 / dt. Hard reset is NIR's own. The others are written as the graph

    LI -> Threshold -> (output)          Threshold -> Scale(-beta·quantum) -> LI, one step later

without the feedback where nothing is reset. u >= threshold is u > the next smaller float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError, require
from spikekit.export.inputs import check_network
from spikekit.export.layers import FloatLayer
from spikekit.export.plan import plan
from spikekit.export.qat import QATNetwork
from spikekit.export.synapses import INPUT, MAXIMUM, SELF, Synapses
from spikekit.files import replacing

Array = NDArray[Any]
# Numbers of one Linear: 128 MiB in float64.
MATRIX_MAX = 2**24
DT = 1e-4
"""Seconds a step, as in the NIR paper and in snnTorch."""


def to_nir(
    net: nn.Module, sample: Tensor, path: str | Path | None = None, *, dt: float = DT, soft: str = "graph"
) -> Any:
    """Write a trained network as a NIR graph, and to a file if `path` is given; returns the `nir.NIRGraph`.

    net, sample: as for `sk.export.to_loihi`, branches, recurrent weights and synaptic currents included.
    dt: seconds a step. soft: how a reset by subtraction is written, which NIR has no neuron for. "graph": LI, Threshold
    and feedback, which means the same to every reader, or is refused by it. "metadata": an LIF whose metadata says
    {"reset": "soft"}; a reader that does not look there resets to zero instead, so choose it only for readers you know.
    Raises ExportError for what cannot be written, before anything is written, and MissingExtraError without `nir`.
    """
    if soft not in ("graph", "metadata"):
        raise InputError(f"to_nir: soft must be 'graph' or 'metadata', got {soft!r}")
    if not (isinstance(dt, (int, float)) and 0 < dt < float("inf")):
        raise InputError(f"to_nir: dt must be a positive number of seconds, got {dt!r}")
    if not isinstance(sample, Tensor) or sample.ndim < 3:
        found = f"shape {tuple(sample.shape)}" if isinstance(sample, Tensor) else type(sample).__name__
        raise InputError(f"to_nir: sample must be an input tensor [T, B, ...], got {found}")
    check_network(net, "to_nir")
    if isinstance(net, QATNetwork):
        raise InputError("to_nir: NIR has no integers as qat trains them; give the network that it came from")
    nir = require("nir", "nir")
    layers = plan(net, sample).layers
    if graded := [layer for layer in layers if layer.graded]:
        missing = "no maximum of currents" if graded[0].activation == MAXIMUM else "no sigma-delta neuron"
        way = "pool spikes, behind a neuron" if graded[0].activation == MAXIMUM else "use sk.LIF there"
        raise ExportError(f"layer {graded[0].name}: NIR has {missing}; export it with sk.export.to_loihi, or {way}")
    writer = _Writer(nir, dt, soft, tuple(sample.shape[2:]))
    for number, layer in enumerate(layers):
        writer.layer(number, layer)
    graph = writer.finish(len(layers) - 1)
    if path is not None:
        # h5py reports a full disk as a RuntimeError at times.
        with replacing(Path(path), InputError, RuntimeError) as temporary:
            nir.write(str(temporary), graph)
    return graph


class _Writer:
    def __init__(self, nir: Any, dt: float, soft: str, shape: tuple[int, ...]) -> None:
        self.nir, self.dt, self.soft = nir, dt, soft
        self.nodes: dict[str, Any] = {"input": nir.Input(np.array(shape))}
        self.edges: list[tuple[str, str]] = []
        # What sends the spikes of a source, and in which shape.
        self.senders: dict[int, tuple[str, tuple[int, ...]]] = {INPUT: ("input", shape)}

    def layer(self, number: int, layer: FloatLayer) -> None:
        """The neurons of a layer, behind the nodes of their inputs."""
        # "/" would be a folder of the HDF5 file.
        name = layer.name.replace("/", "_")
        shape = self._neuron_shape(layer)
        entry, spikes = self._neuron(name, layer, shape)
        self.senders[number] = (spikes, shape)
        bias = layer.bias
        for place, projection in enumerate(layer.inputs):
            own = name if len(layer.inputs) == 1 else f"{name}_{place}"
            sender = self.senders[number if projection.source == SELF else projection.source]
            self._synapses(own, layer, projection.synapses, bias, sender, shape, entry)
            # Once is enough.
            bias = np.zeros_like(bias)

    def _neuron_shape(self, layer: FloatLayer) -> tuple[int, ...]:
        kinds = {projection.synapses.kind for projection in layer.inputs}
        if "conv" in kinds and kinds != {"conv"} and len(layer.shape) > 1:
            raise ExportError(
                f"layer {layer.name}: NIR has no node that makes an image of single synapses, which it has beside a "
                "convolution. Use strided convolutions in place of pooling and upsampling with other borders"
            )
        # What comes out of Linear is flat.
        return layer.shape if kinds == {"conv"} else (len(layer.bias),)

    def _synapses(
        self,
        name: str,
        layer: FloatLayer,
        synapses: Synapses,
        bias: Array,
        sender: tuple[str, tuple[int, ...]],
        shape: tuple[int, ...],
        entry: str,
    ) -> None:
        nir, (last, sent) = self.nir, sender
        if synapses.kind == "conv":
            if sent != synapses.in_shape:
                raise ExportError(f"layer {layer.name}: NIR cannot unflatten {sent} to {synapses.in_shape}")
            rows = bias.reshape(synapses.rows, -1)
            if not (rows == rows[:, :1]).all():
                raise ExportError(
                    f"layer {layer.name}: its bias differs inside a channel, which NIR's Conv2d has no place for. Put "
                    "batch normalisation behind convolutions, not in front of them"
                )
            weight = exact(synapses.weight)
            geometry = (synapses.stride, synapses.padding, synapses.dilation, synapses.groups)
            last = self._add(
                f"{name}_conv", nir.Conv2d(synapses.in_shape[1:], weight, *geometry, exact(rows[:, 0])), last
            )
            size = synapses.n_out // synapses.rows
            images = (synapses.rows, *synapses.image)
            # nir 1.0.8 infers both from a kernel that is square, in one group.
            node = self.nodes[last]
            node.input_type = {"input": np.array(synapses.in_shape)}
            node.output_type = {"output": np.array(images)}
            if len(shape) == 1 and size > 1:
                last = self._add(f"{name}_flat", nir.Flatten({"input": np.array(images)}, start_dim=0), last)
        else:
            if synapses.n_in * synapses.n_out > MATRIX_MAX:
                raise ExportError(
                    f"layer {layer.name}: {synapses.n_in:,} x {synapses.n_out:,} weights, most of them 0, are too many "
                    "for a NIR Linear, which has no sparse form. Use strided convolutions in place of pooling"
                )
            if len(sent) > 1:
                last = self._add(f"{name}_flatten", nir.Flatten({"input": np.array(sent)}, start_dim=0), last)
            weight = exact(_matrix(synapses))
            node = nir.Affine(weight, exact(bias)) if bias.any() else nir.Linear(weight)
            last = self._add(f"{name}_linear", node, last)
        self.edges.append((last, entry))

    def _add(self, name: str, node: Any, last: str | None = None) -> str:
        """Put a node behind another, under its name or, where that is taken, one like it."""
        while name in self.nodes or name == "output":
            name += "_"
        self.nodes[name] = node
        if last is not None:
            self.edges.append((last, name))
        return name

    def _neuron(self, name: str, layer: FloatLayer, shape: tuple[int, ...]) -> tuple[str, str]:
        """Add the neuron and return the nodes that its input goes to and that its spikes come from."""
        nir, dt = self.nir, self.dt
        if layer.rho is not None or layer.period:
            raise ExportError(
                f"layer {layer.name}: NIR has no neuron with an adaptive threshold or a refractory period; use sk.LIF"
            )
        if layer.astrocyte is not None:
            raise ExportError(
                f"layer {layer.name}: NIR has no neuron that an astrocyte modulates; use sk.LIF without one"
            )
        beta, threshold, quantum = (values.reshape(shape) for values in (layer.beta, layer.threshold, layer.quantum))
        notes: dict[str, Any] = {"spikekit": "1", "dt": dt, "beta": beta}
        tau, gain, leaky = self._constants(layer, beta)
        zero = np.zeros_like(beta)
        integrator = nir.LI(tau, gain, zero, metadata=notes) if leaky else nir.I(gain, metadata=notes)
        if not layer.fires:
            only = self._add(name, integrator)
            return self._current(name, layer, shape, only), only
        notes |= {"reset": layer.reset, "threshold": threshold, "inclusive": int(layer.inclusive)}
        level = threshold
        if layer.inclusive:
            # The decision is made in float32, where nothing lies between the two.
            level = np.nextafter(threshold.astype(np.float32), np.float32(0)).astype(np.float64)
        if layer.reset == "soft":
            notes["quantum"] = quantum
        if layer.reset == "hard" or (layer.reset == "soft" and self.soft == "metadata"):
            node = (
                nir.LIF(tau, gain, zero, level, zero.copy(), metadata=notes)
                if leaky
                else nir.IF(gain, level, zero, metadata=notes)
            )
            only = self._add(name, node)
            return self._current(name, layer, shape, only), only
        membrane = self._add(f"{name}_membrane", integrator)
        spikes = self._add(name, nir.Threshold(level, metadata=notes), membrane)
        if layer.reset == "soft":
            self.edges.append((self._add(f"{name}_reset", nir.Scale(-beta * quantum), spikes), membrane))
        return self._current(name, layer, shape, membrane), spikes

    def _current(self, name: str, layer: FloatLayer, shape: tuple[int, ...], entry: str) -> str:
        """The synaptic current in front of `entry`, where the layer keeps one: a leaky integrator of its own."""
        if layer.alpha is None:
            return entry
        alpha = layer.alpha.reshape(shape)
        tau, gain, leaky = self._constants(layer, alpha)
        notes = {"spikekit": "1", "dt": self.dt, "beta": alpha}
        node = self.nir.LI(tau, gain, np.zeros_like(tau), metadata=notes) if leaky else self.nir.I(gain, metadata=notes)
        current = self._add(f"{name}_current", node)
        self.edges.append((current, entry))
        return current

    def _constants(self, layer: FloatLayer, keep: Array) -> tuple[Array, Array, bool]:
        """Time constant and gain of a decay, and whether there is one."""
        leaky = bool((keep < 1).all())
        if not leaky and (keep < 1).any():
            raise ExportError(f"layer {layer.name}: some of its neurons have beta = 1, and NIR's LIF none; make it < 1")
        tau = self.dt / (1 - keep) if leaky else np.ones_like(keep)
        return tau, tau / self.dt, leaky

    def finish(self, last: int) -> Any:
        name, shape = self.senders[last]
        self.nodes["output"] = self.nir.Output(np.array(shape))
        self.edges.append((name, "output"))
        return self.nir.NIRGraph(self.nodes, self.edges, type_check=self._checks())

    def _checks(self) -> bool:
        convs = [node for node in self.nodes.values() if isinstance(node, self.nir.Conv2d)]
        return all(conv.groups == 1 and conv.weight.shape[2] == conv.weight.shape[3] for conv in convs)


def _matrix(synapses: Synapses) -> Array:
    if synapses.kind == "dense":
        return synapses.weight
    matrix = np.zeros((synapses.n_out, synapses.n_in))
    post, pre, values = synapses.connections
    matrix[post, pre] = values
    return matrix


def exact(values: Array) -> Array:
    """The values in float32 where that changes none of them, else as they are."""
    small = values.astype(np.float32)
    return small if np.array_equal(small, values) else values
