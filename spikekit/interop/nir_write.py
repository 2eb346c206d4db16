"""NIR, written: the Neuromorphic Intermediate Representation (Pedersen et al. 2024), with no reset lost.

NIR's neurons live in continuous time, tau dv/dt = (v_leak - v) + R I, fire at v > v_threshold and reset to a value. One
Euler step of `dt` makes v = (1 - dt/tau) v + (R dt/tau) I, so an LIF is written with tau = dt / (1 - beta) and
R = tau / dt; an IF, dv/dt = R I, with R = 1 / dt. Hard reset is NIR's own. The others are written as the graph

    LI -> Threshold -> (output)          Threshold -> Scale(-beta·quantum) -> LI, one step later

without the feedback where nothing is reset. u >= threshold is u > the next smaller float32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError, require
from spikekit.export.plan import FloatLayer, plan

Array = NDArray[Any]
DT = 1e-4
"""Seconds a step, as in the NIR paper and in snnTorch."""


def to_nir(
    net: nn.Module, sample: Tensor, path: str | Path | None = None, *, dt: float = DT, soft: str = "graph"
) -> Any:
    """Write a trained network as a NIR graph, and to a file if `path` is given; returns the `nir.NIRGraph`.

    net, sample: as for `sk.export.to_loihi`: a chain of Conv2d, Linear, BatchNorm (folded in), Flatten and LIF, IF, LI.
    dt: seconds a step. soft: how a reset by subtraction is written, which NIR has no neuron for. "graph": LI, Threshold
    and feedback, which means the same to every reader, or is refused by it. "metadata": an LIF whose metadata says
    {"reset": "soft"}; a reader that does not look there resets to zero instead, so choose it only for readers you know.
    Raises ExportError for what cannot be written, before anything is written, and MissingExtraError without `nir`.
    """
    if soft not in ("graph", "metadata"):
        raise InputError(f"to_nir: soft must be 'graph' or 'metadata', got {soft!r}")
    if not (isinstance(dt, (int, float)) and 0 < dt < float("inf")):
        raise InputError(f"to_nir: dt must be a positive number of seconds, got {dt!r}")
    if not isinstance(sample, Tensor):
        raise InputError(f"to_nir: sample must be an input tensor [T, B, ...], got {type(sample).__name__}")
    nir = require("nir", "nir")
    layers = plan(net, sample)
    writer = _Writer(nir, dt, soft, tuple(sample.shape[2:]))
    for layer in layers:
        writer.layer(layer)
    graph = writer.finish()
    if path is not None:
        _write(nir, Path(path), graph)
    return graph


def _write(nir: Any, path: Path, graph: Any) -> None:
    """Replace the file at `path`; on any failure the file that was there stays."""
    if path.exists() and not path.is_file():
        raise InputError(f"to_nir: {path} is there and is no file; give the name of one")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            nir.write(str(temporary), graph)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        # h5py reports a full disk as a RuntimeError at times.
        raise InputError(
            f"to_nir: {path} could not be written ({error}). Give a file in a folder that is there, with free space"
        ) from error


class _Writer:
    def __init__(self, nir: Any, dt: float, soft: str, shape: tuple[int, ...]) -> None:
        self.nir, self.dt, self.soft, self.shape = nir, dt, soft, shape
        self.nodes: dict[str, Any] = {"input": nir.Input(np.array(shape))}
        self.edges: list[tuple[str, str]] = []
        self.last = "input"

    def add(self, name: str, node: Any) -> str:
        """Put a node behind the last one, under its name or, where that is taken, one like it."""
        name = self.free(name)
        self.nodes[name] = node
        self.edges.append((self.last, name))
        self.last = name
        return name

    def free(self, name: str) -> str:
        while name in self.nodes or name == "output":
            name += "_"
        return name

    def layer(self, layer: FloatLayer) -> None:
        # "/" would be a folder of the HDF5 file.
        name, synapses, nir = layer.name.replace("/", "_"), layer.synapses, self.nir
        rows = layer.bias.reshape(len(synapses.weight), -1)[:, 0]
        weight, bias = exact(synapses.weight), exact(rows)
        if synapses.kind == "conv":
            if self.shape != synapses.in_shape:
                raise ExportError(f"layer {layer.name}: NIR cannot unflatten {self.shape} to {synapses.in_shape}")
            geometry = (synapses.stride, synapses.padding, synapses.dilation)
            self.add(f"{name}_conv", nir.Conv2d(synapses.in_shape[1:], weight, *geometry, synapses.groups, bias))
            self.shape = synapses.out_shape
            # nir 1.0.8 infers both from a kernel that is square, in one group.
            node = self.nodes[self.last]
            node.input_type, node.output_type = (
                {"input": np.array(synapses.in_shape)},
                {"output": np.array(self.shape)},
            )
        else:
            if len(self.shape) > 1:
                self.add(f"{name}_flatten", nir.Flatten({"input": np.array(self.shape)}, start_dim=0))
            self.add(f"{name}_linear", nir.Affine(weight, bias) if rows.any() else nir.Linear(weight))
            self.shape = (synapses.n_out,)
        self.neuron(name, layer)

    def neuron(self, name: str, layer: FloatLayer) -> None:
        nir, dt = self.nir, self.dt
        beta, threshold, quantum = (
            values.reshape(self.shape) for values in (layer.beta, layer.threshold, layer.quantum)
        )
        leaky = bool((beta < 1).all())
        if not leaky and (beta < 1).any():
            raise ExportError(f"layer {layer.name}: some of its neurons have beta = 1, and NIR's LIF none; make it < 1")
        tau = dt / (1 - beta) if leaky else np.ones_like(beta)
        zero, gain = np.zeros_like(beta), tau / dt
        notes: dict[str, Any] = {"spikekit": "1", "dt": dt, "beta": beta}
        integrator = nir.LI(tau, gain, zero, metadata=notes) if leaky else nir.I(gain, metadata=notes)
        if not layer.fires:
            self.add(name, integrator)
            return
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
            self.add(name, node)
            return
        membrane = self.add(f"{name}_membrane", integrator)
        spikes = self.add(name, nir.Threshold(level, metadata=notes))
        if layer.reset == "soft":
            reset = self.free(f"{name}_reset")
            self.nodes[reset] = nir.Scale(-beta * quantum)
            self.edges += [(spikes, reset), (reset, membrane)]

    def finish(self) -> Any:
        self.nodes["output"] = self.nir.Output(np.array(self.shape))
        self.edges.append((self.last, "output"))
        return self.nir.NIRGraph(self.nodes, self.edges, type_check=self._checks())

    def _checks(self) -> bool:
        convs = [node for node in self.nodes.values() if isinstance(node, self.nir.Conv2d)]
        return all(conv.groups == 1 and conv.weight.shape[2] == conv.weight.shape[3] for conv in convs)


def exact(values: Array) -> Array:
    """The values in float32 where that changes none of them, else as they are."""
    small = values.astype(np.float32)
    return small if np.array_equal(small, values) else values
