"""Turn a job file into a Lava network, and its shared arrays into a result file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astrocyte.process import Astrocytes
from delay.process import DelayLine
from lava.proc.dense.process import Dense
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from maximum.process import MaximumLayer
from memory import shared_zeros
from scipy.sparse import csr_matrix
from sigmadelta.process import SigmaDeltaLayer
from softlif.process import SoftResetLIF
from source.process import FrameSource

# Lava's Sparse selects columns at a fixed cost of about 0.1 ms a step, and at ordinary rates Dense is
# the quicker one for a matrix that is small or more than about a tenth full (measured with 5 % and 30 % of
# inputs firing: 128x784 full 16-60 us against 340-430; 2700x2312 at 2 % 2.0-8.6 ms against 0.5-1.0).
DENSE_CELLS = 20_000
DENSE_FILLED = 0.1
INPUT, SELF = -1, -2
MAXIMUM = "maximum"
# Of float messages, which have none: Lava asks whether a message has any, or is a spike.
SOME_BITS = 24


@dataclass(frozen=True)
class Network:
    """A network that is ready to compile, and the arrays it will fill."""

    source: Any
    processes: dict[str, str]  # name of a Lava process -> what it is, in words
    steps: int
    spikes: list[np.ndarray]
    membranes: list[np.ndarray]
    progress: np.ndarray


def _synapses(
    file: Mapping[str, np.ndarray], each: Mapping[str, Any], n: int, key: str, options: dict[str, Any]
) -> Any:
    """Lava's own connection process for the weights of one input of a layer of n neurons."""
    fixed = "num_weight_bits" in options
    values = file[f"{key}_values"].astype(np.int32 if fixed else np.float64)
    matrix = csr_matrix((values, (file[f"{key}_rows"], file[f"{key}_cols"])), shape=(n, each["n_in"]))
    if fixed:
        # Left to itself Lava derives this from the data, and rounds the weights to it.
        options = options | {"weight_exp": each["weight_exp"], "sign_mode": SignMode[each["sign_mode"]]}
    cells = matrix.shape[0] * matrix.shape[1]
    if cells <= DENSE_CELLS or matrix.nnz >= DENSE_FILLED * cells:
        return Dense(weights=matrix.toarray(), **options)
    return Sparse(weights=matrix, **options)


class _Builder:
    """Makes processes and connects them; described: name of a Lava process -> what it is, in words."""

    def __init__(self, file: Mapping[str, np.ndarray]) -> None:
        self.file = file
        self.meta = json.loads(str(file["meta"]))
        self.fixed = self.meta["mode"] == "fixed"
        frames = file["inputs"]
        self.samples, self.period, width = frames.shape
        self.source = FrameSource(frames=frames.reshape(self.samples * self.period, width), name="input")
        self.described = {self.source.name: "the input"}
        # Steps from an input frame to the step in which a source answers to it: every synapse costs one.
        self.lags = {INPUT: 0}
        self.ports = {INPUT: (self.source.s_out, width)}
        self.bits = {INPUT: self.meta["input_bits"], SELF: 0}
        self.delayed: dict[tuple[int, int], Any] = {}
        self.spikes: list[np.ndarray] = []
        self.membranes: list[np.ndarray] = []
        self.progress = shared_zeros((len(self.meta["layers"]),), np.int64)

    def layer(self, index: int, layer: Mapping[str, Any]) -> None:
        """The neurons of a layer, behind all its inputs."""
        n, key, graded = layer["n"], f"layer{index}", layer["activation"] is not None
        heard = [each["source"] for each in (*layer["inputs"], *layer["senses"])]
        lag = 1 + max(self.lags[source] for source in heard if source != SELF)
        messages = np.int32 if self.fixed else np.float64
        self.spikes.append(shared_zeros((self.samples, self.period, n), messages if graded else bool))
        self.membranes.append(shared_zeros((self.samples, n), np.int64 if self.fixed else np.float64))
        maximum = layer["activation"] == MAXIMUM
        make = self._maximum if maximum else self._sigma_delta if graded else self._soft_reset
        neurons = make(index, layer, lag)
        self.described[neurons.name] = f"the neurons of layer {layer['name']!r}"
        for place, each in enumerate(layer["inputs"]):
            dendrites = n * layer["dendrites"]
            synapses = self._connection(f"{key}_input{place}", each, dendrites, layer["weight_bits"], layer["name"])
            if each["source"] == SELF:
                neurons.s_out.connect(synapses.s_in)
                synapses.a_out.connect(neurons.r_in)
            else:
                self._sender(each["source"], lag).connect(synapses.s_in)
                synapses.a_out.connect(neurons.a_in)
        if layer["astrocyte"]:
            self._astrocytes(index, layer, lag, neurons)
        self.lags[index] = lag
        self.ports[index] = (neurons.s_out, n)
        self.bits[index] = (layer["message_bits"] or SOME_BITS) if graded else 0

    def _connection(self, key: str, each: Mapping[str, Any], n: int, bits: int, name: str) -> Any:
        options: dict[str, Any] = {"name": key, "num_message_bits": self.bits[each["source"]]}
        options |= {"num_weight_bits": bits} if self.fixed else {}
        synapses = _synapses(self.file, each, n, key, options)
        self.described[synapses.name] = f"the weights of layer {name!r}"
        return synapses

    def _fields(self, index: int, layer: Mapping[str, Any], *optional: str) -> dict[str, np.ndarray]:
        """What the neurons of a layer have one of each, with zeros for the optional ones that are missing."""
        nothing = np.zeros(layer["n"], int if self.fixed else float)
        given = {field: self.file[f"layer{index}_{field}"] for field in layer["fields"]}
        return dict.fromkeys(optional, nothing) | given

    def _soft_reset(self, index: int, layer: Mapping[str, Any], lag: int) -> Any:
        return SoftResetLIF(
            **self._fields(index, layer, "current_decay", "adapt_decay", "adapt_step"),
            **{field: layer[field] for field in ("reset", "inclusive", "fires")},
            keeps_current="current_decay" in layer["fields"],
            adapts="adapt_decay" in layer["fields"],
            refractory=layer["period"],
            modulated=(layer["astrocyte"] or {}).get("acts_on", ""),
            shift=layer["state_shift"],
            period=self.period,
            delay=lag,
            spikes=self.spikes[index],
            membranes=self.membranes[index],
            progress=self.progress[index:],
            name=f"layer{index}",
        )

    def _sigma_delta(self, index: int, layer: Mapping[str, Any], lag: int) -> Any:
        fields = self._fields(index, layer, "message_shift")
        return SigmaDeltaLayer(
            **{field: fields[field] for field in ("threshold", "bias", "message_shift")},
            largest=2 ** (layer["message_bits"] - 1) - 1 if self.fixed else 0,
            relu=layer["activation"] == "relu",
            period=self.period,
            delay=lag,
            messages=self.spikes[index],
            states=self.membranes[index],
            progress=self.progress[index:],
            name=f"layer{index}",
        )

    def _maximum(self, index: int, layer: Mapping[str, Any], lag: int) -> Any:
        fields = self._fields(index, layer, "message_shift")
        return MaximumLayer(
            **{field: fields[field] for field in ("bias", "message_shift")},
            dendrites=layer["dendrites"],
            largest=2 ** (layer["message_bits"] - 1) - 1 if self.fixed else 0,
            period=self.period,
            delay=lag,
            messages=self.spikes[index],
            states=self.membranes[index],
            progress=self.progress[index:],
            name=f"layer{index}",
        )

    def _astrocytes(self, index: int, layer: Mapping[str, Any], lag: int, neurons: Any) -> None:
        """What modulates a layer, connected with it directly both ways."""
        own, (domains, scales) = layer["astrocyte"], self.file[f"layer{index}_astrocyte_decay"].shape
        shapes: dict[str, tuple[int, ...]] = {
            "decay": (domains, scales),
            "weight": (domains, scales),
            "table": (domains, 257),
        }
        shapes |= dict.fromkeys(("bias", "strength", "offset"), (domains,))
        if self.fixed:
            shares = (own["share"], own["heard_share"])
        else:
            shares = (1 / (layer["n"] // domains), 1 / max(own["heard"], 1))
        nothing = {field: np.zeros(shape, int if self.fixed else float) for field, shape in shapes.items()}
        modulator = Astrocytes(
            **nothing | {field: self.file[f"layer{index}_astrocyte_{field}"] for field in own["fields"]},
            n=layer["n"],
            acts_on=own["acts_on"],
            shares=shares,
            own=own.get("own", 0.0),
            samples=self.samples,
            period=self.period,
            delay=lag,
            name=f"astrocyte{index}",
        )
        self.described[modulator.name] = f"the astrocytes of layer {layer['name']!r}"
        neurons.s_out.connect(modulator.s_in)
        modulator.m_out.connect(neurons.m_in)
        for place, each in enumerate(layer["senses"]):
            synapses = self._connection(f"layer{index}_sense{place}", each, domains, 8, layer["name"])
            self._sender(each["source"], lag).connect(synapses.s_in)
            synapses.a_out.connect(modulator.p_in)

    def _sender(self, source: int, lag: int) -> Any:
        """The port that sends the spikes of a source, in time for what is behind a synapse with this lag."""
        (port, n), wait = self.ports[source], lag - 1 - self.lags[source]
        if not wait:
            return port
        if (source, wait) not in self.delayed:
            line = DelayLine(n=n, steps=wait, name=f"delay{source}_{wait}")
            self.described[line.name] = f"a delay of {wait} steps"
            port.connect(line.s_in)
            self.delayed[source, wait] = line
        return self.delayed[source, wait].s_out


def build(file: Mapping[str, np.ndarray]) -> Network:
    """The processes of a job, connected; `file` is the job file that spikekit's `LavaJob.save` wrote."""
    builder = _Builder(file)
    for index, layer in enumerate(builder.meta["layers"]):
        builder.layer(index, layer)
    steps = builder.samples * builder.period + max(builder.lags.values())
    return Network(builder.source, builder.described, steps, builder.spikes, builder.membranes, builder.progress)


def write_result(path: str, network: Network, facts: dict[str, Any]) -> None:
    """Write the result file in one step: it is there entirely or not at all."""
    arrays: dict[str, np.ndarray] = {"meta": np.array(json.dumps(facts | {"layers": len(network.spikes)}))}
    for index, (spikes, membranes) in enumerate(zip(network.spikes, network.membranes, strict=True)):
        arrays[f"spikes{index}"] = spikes
        arrays[f"membranes{index}"] = membranes
    with open(path + ".part", "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(path + ".part", path)
