"""`LoihiNet`: the one neutral integer network that simulators, back ends and reports see."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError
from spikekit.export import storage
from spikekit.export.faithful import check_output
from spikekit.export.float_run import LayerTrace, run_plan
from spikekit.export.inputs import check_network, check_whole, checked_calibration
from spikekit.export.integer import run_integers, run_last
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.netx import write_netx
from spikekit.export.plan import plan
from spikekit.export.qat import QATNetwork
from spikekit.export.quantise import quantise
from spikekit.export.synapses import INPUT
from spikekit.export.verify import Proof, verify


@dataclass(frozen=True, eq=False)
class LoihiNet:
    """A network in Loihi-style integers, beside the float plan it came from.

    layers: what the chip computes. plan: the same layers in float64, batch normalisation folded in.
    in_shape: shape of one step of one sample, for example (2, 34, 34). Inputs are whole numbers: spikes, event counts,
    or changes from step to step for sigma-delta neurons. notes: plain JSON values kept with the network, such as the
    data it was trained on.
    """

    layers: tuple[IntegerLayer, ...]
    plan: tuple[FloatLayer, ...]
    in_shape: tuple[int, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def simulate(self, x: Tensor) -> Tensor:
        """The integer network's output for x [T, B, ...], in the trained network's units.

        A readout (LI) gives membranes [T, B, n], a last layer that sends its spikes or messages, as float32; on x's
        device.
        """
        self.check_input(x)
        output = run_last(self.layers, x)
        if not self.layers[-1].fires:
            output = output / torch.from_numpy(self.layers[-1].unit).to(x.device)
        elif self.layers[-1].grain is not None:
            output = output / 2.0 ** self.layers[-1].grain
        output = output.to(torch.float32)
        return output.unflatten(-1, self.layers[-1].shape)

    def trace(self, x: Tensor) -> list[LayerTrace]:
        """Spikes (bool, messages int32) and membranes (int64) of every layer of the integer network, x [T, B, ...]."""
        self.check_input(x)
        return run_integers(self.layers, x)

    def trace_float(self, x: Tensor) -> list[LayerTrace]:
        """Spikes and membranes of every layer of the float plan, in float64, for x [T, B, ...]."""
        self.check_input(x)
        return run_plan(self.plan, x)

    def verify(
        self,
        x: Tensor,
        backend: str = "lava-fixed",
        *,
        python: str | Path | None = None,
        timeout: float = 600.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Proof:
        """Run x [T, B, ...] here and on `backend`, and compare every spike and every last membrane.

        backend: "lava-fixed" (against the integer simulator) or "lava-float" (against the float64 plan).
        python: the worker's interpreter; None finds the one of `spikekit lava install`. timeout: seconds.
        progress: called with (steps done, steps in all).
        Returns a `Proof`. Raises WorkerError when Lava is missing or fails.
        """
        return verify(self, x, backend, python=python, timeout=timeout, progress=progress)

    def save(self, path: str | Path) -> Path:
        """Write the network to one .npz file, without pickle; returns its path."""
        return storage.save((self.layers, self.plan, self.in_shape, self.notes), path)

    def to_netx(self, path: str | Path) -> Path:
        """Write the network for lava-dl's `netx.hdf5.Network`, to one HDF5 file; returns its path.

        For chains of dense and convolution layers with hard reset that `to_loihi(..., target="netx")` quantised; run it
        with reset_interval=T, and each sample starts at rest. Raises ExportError with the layer and the reason for
        everything else, before anything is written, and MissingExtraError without h5py.
        """
        return write_netx(self, path)

    def report(self, path: str | Path, x: Tensor, *, proof: Proof | None = None) -> Path:
        """Write one page of HTML about the network on x [T, B, ...]: layers, activity, loss, cores, energy, the proof.

        proof: what `verify` returned; None says that none was made. `spikekit.export.page.write_report` takes more.
        """
        # The page knows the network, not the other way round.
        from spikekit.export.page import write_report

        return write_report(self, x, path, proof=proof)

    @staticmethod
    def load(path: str | Path) -> LoihiNet:
        """Read a network that `save` wrote. Raises ExportError for anything else."""
        return LoihiNet(*storage.load(path))

    def check_input(self, x: Tensor) -> None:
        """Raise InputError unless x is [T, B, *in_shape], not empty, and holds whole numbers.

        Where an astrocyte senses the input, they are at least 0: the chip holds what is sensed between 0 and 1.
        """
        check_whole(x, self.in_shape, "LoihiNet")
        sensing = [layer.name for layer in self.plan if any(each.source == INPUT for each in layer.senses)]
        if sensing and bool((x < 0).any()):
            raise InputError(
                f"LoihiNet: the input holds {x.min().item():g}, and the astrocyte of layer {sensing[0]} senses it as "
                "spikes, which are not below 0. Give the two signs two channels, or use senses='post'."
            )


def to_loihi(
    net: nn.Module,
    calibration: Tensor,
    *,
    weight_bits: int | None = None,
    thresholds: str | None = None,
    headroom: float | None = None,
    target: str = "lava",
    notes: Mapping[str, Any] | None = None,
) -> LoihiNet:
    """Quantise a trained network for a Loihi-style chip.

    net: a network in eval mode, of the layers that `plan` reads, residual and branching ones included, or what
    `sk.fold` or `qat` made of it. An LIF with a norm becomes one with a threshold a channel or neuron.
    calibration: real input [T, B, ...], whole numbers; it sets the size of the states. weight_bits: 4 to 8, sign
    included; None: 8. With fewer than 8, the largest weights of a row clip where that rounds the row better.
    thresholds: "neuron" (or None) for one each; "group" for at most 16 a layer, as a core of Loihi 1 holds; "layer" for
    one. Rows are scaled so that they meet a shared threshold, which costs bits of their weights; thresholds that differ
    inside a channel, which has one scale, are rounded to the nearest (`quantisation_loss` tells both errors).
    headroom: how many times larger the states may become before they saturate; None: 2. A network from `qat` brings all
    three. target: "netx" for a network that `to_netx` can write, which keeps one threshold a layer and no exponents of
    weights. notes: plain JSON values kept with the network. Needs no Lava. Raises ExportError with the layer, the
    reason and the way out.
    """
    check_network(net, "to_loihi")
    if notes is not None and not isinstance(notes, Mapping):
        raise InputError(f"to_loihi: notes must be plain JSON values by name, got {type(notes).__name__}")
    try:
        json.dumps(notes)
    except (TypeError, ValueError) as error:
        raise InputError(f"to_loihi: notes must be plain JSON values ({error})") from error
    calibration = checked_calibration(calibration, 2.0 if headroom is None else headroom, "to_loihi")
    if isinstance(net, QATNetwork):
        if any(setting is not None for setting in (weight_bits, thresholds, headroom)) or target != "lava":
            raise InputError(
                "to_loihi: qat() settled weight_bits, thresholds, headroom and target; leave them out here"
            )
        check_whole(calibration, net.in_shape, "to_loihi: calibration")
        exact, chips = net.quantised()
        return LoihiNet(chips, exact, net.in_shape, dict(notes or {}))
    if target not in ("lava", "netx"):
        raise InputError(f"to_loihi: target must be 'lava' or 'netx', got {target!r}")
    if target == "netx" and thresholds not in (None, "layer"):
        raise InputError(f"to_loihi: target='netx' keeps one threshold a layer, so thresholds={thresholds!r} cannot be")
    layers = plan(net, calibration).layers
    if target == "netx" and (modulated := [layer.name for layer in layers if layer.astrocyte is not None]):
        raise ExportError(f"layer {modulated[0]}: netx has no astrocytes over neurons. Use target='lava'.")
    in_shape = tuple(calibration.shape[2:])
    traces = LoihiNet((), layers, in_shape).trace_float(calibration)
    check_output(net, layers, traces, calibration)
    integers = quantise(
        layers,
        traces,
        headroom=2.0 if headroom is None else headroom,
        weight_bits=8 if weight_bits is None else weight_bits,
        thresholds=thresholds if thresholds is not None else "layer" if target == "netx" else "neuron",
        netx=target == "netx",
    )
    return LoihiNet(integers, layers, in_shape, dict(notes or {}))
