"""Turn a job file into a Lava network, and its shared arrays into a result file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.proc.dense.process import Dense
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from memory import shared_zeros
from scipy.sparse import csr_matrix
from softlif.process import SoftResetLIF
from source.process import FrameSource

# Lava's Sparse selects columns at a fixed cost of about 0.1 ms a step, and at ordinary rates Dense is
# the quicker one for a matrix that is small or more than about a tenth full (measured with 5 % and 30 % of
# inputs firing: 128x784 full 16-60 us against 340-430; 2700x2312 at 2 % 2.0-8.6 ms against 0.5-1.0).
DENSE_CELLS = 20_000
DENSE_FILLED = 0.1


@dataclass(frozen=True)
class Network:
    """A network that is ready to compile, and the arrays it will fill."""

    source: Any
    processes: dict[str, str]  # name of a Lava process -> what it is, in words
    steps: int
    spikes: list[np.ndarray]
    membranes: list[np.ndarray]
    progress: np.ndarray


def _synapses(file: Mapping[str, np.ndarray], layer: Mapping[str, Any], key: str, fixed: bool, bits: int) -> Any:
    """Lava's own connection process for the weights of one layer."""
    kind = np.int32 if fixed else np.float64
    values = file[f"{key}_values"].astype(kind)
    matrix = csr_matrix((values, (file[f"{key}_rows"], file[f"{key}_cols"])), shape=tuple(layer["shape"]))
    options = {"name": f"{key}.weights", "num_message_bits": bits}
    if fixed:
        # Left to itself Lava derives this from the data, and rounds the weights to it.
        options |= {"weight_exp": layer["weight_exp"], "sign_mode": SignMode[layer["sign_mode"]]}
        options |= {"num_weight_bits": layer.get("weight_bits", 8)}
    cells = matrix.shape[0] * matrix.shape[1]
    if cells <= DENSE_CELLS or matrix.nnz >= DENSE_FILLED * cells:
        return Dense(weights=matrix.toarray(), **options)
    return Sparse(weights=matrix, **options)


def build(file: Mapping[str, np.ndarray]) -> Network:
    """The processes of a job, connected; `file` is the job file that spikekit's `LavaJob.save` wrote."""
    meta = json.loads(str(file["meta"]))
    fixed = meta["mode"] == "fixed"
    inputs = file["inputs"]
    samples, period, width = inputs.shape
    layers = meta["layers"]
    progress = shared_zeros((len(layers),), np.int64)
    source = FrameSource(frames=inputs.reshape(samples * period, width), name="input")
    described = {source.name: "the input"}
    spikes, membranes, upstream = [], [], source.s_out
    for index, layer in enumerate(layers):
        n, key = layer["shape"][0], f"layer{index}"
        spikes.append(shared_zeros((samples, period, n), bool))
        membranes.append(shared_zeros((samples, n), np.int64 if fixed else np.float64))
        synapses = _synapses(file, layer, key, fixed, meta["input_bits"] if index == 0 else 0)
        neurons = SoftResetLIF(
            **{field: file[f"{key}_{field}"] for field in ("decay", "bias", "threshold", "quantum")},
            **{field: layer[field] for field in ("reset", "inclusive", "fires")},
            period=period,
            delay=index + 1,
            spikes=spikes[-1],
            membranes=membranes[-1],
            progress=progress[index:],
            name=key,
        )
        described[synapses.name] = f"the weights of layer {layer['name']!r}"
        described[neurons.name] = f"the neurons of layer {layer['name']!r}"
        upstream.connect(synapses.s_in)
        synapses.a_out.connect(neurons.a_in)
        upstream = neurons.s_out
    return Network(source, described, samples * period + len(layers), spikes, membranes, progress)


def write_result(path: str, network: Network, facts: dict[str, Any]) -> None:
    """Write the result file in one step: it is there entirely or not at all."""
    arrays: dict[str, np.ndarray] = {"meta": np.array(json.dumps(facts | {"layers": len(network.spikes)}))}
    for index, (spikes, membranes) in enumerate(zip(network.spikes, network.membranes, strict=True)):
        arrays[f"spikes{index}"] = spikes
        arrays[f"membranes{index}"] = membranes
    with open(path + ".part", "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(path + ".part", path)
