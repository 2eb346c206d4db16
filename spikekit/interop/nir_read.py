"""NIR, read: a chain of nodes becomes an `sk.Sequential`; what a file cannot say is asked for, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError, require
from spikekit.interop.assemble import Chain
from spikekit.interop.nir_neurons import Reading, add_neuron, soft_reset
from spikekit.sequential import Sequential
from spikekit.surrogate import Surrogate

_WRITERS = (None, "snntorch", "norse", "sinabs")
_STEPS = {None: 1e-4, "snntorch": 1e-4, "norse": 1e-3, "sinabs": 1.0}
_NEURONS = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI")


def from_nir(
    source: str | Path | Any,
    *,
    dt: float | None = None,
    written_by: str | None = None,
    reset: str | None = None,
    surrogate: Surrogate | None = None,
    dtype: torch.dtype = torch.float32,
) -> Sequential:
    """Read a NIR file, or a `nir.NIRGraph`, as a network of ours.

    dt: seconds a step; None: what the file says, or the writer's usual step (1e-4 s; norse 1e-3 s). written_by:
    "snntorch", "norse" or "sinabs", whose files mean other equations than NIR's own (docs/interop.md lists them).
    reset: "soft", "hard" or "none", what the network was trained with: those three lose it. Files of `to_nir` say all
    of this themselves. surrogate: for training on. dtype: of weights and parameters.
    Raises ExportError with the node's name and the way out for nodes, branches and loops that we do not have.
    """
    nir = require("nir", "nir")
    if written_by not in _WRITERS:
        raise InputError(f"from_nir: written_by must be one of {_WRITERS}, got {written_by!r}")
    if reset not in (None, "soft", "hard", "none"):
        raise InputError(f"from_nir: reset must be 'soft', 'hard' or 'none', got {reset!r}")
    if dt is not None and not 0 < dt < float("inf"):
        raise InputError(f"from_nir: dt must be a positive number of seconds, got {dt}")
    if isinstance(source, (str, Path)):
        if not Path(source).is_file():
            raise InputError(f"from_nir: there is no file {source}")
        try:
            # nir 1.0.8 infers a wrong shape for kernels that are not square; torch checks shapes anyway.
            source = nir.read(str(source), type_check=False)
        except Exception as error:
            raise ExportError(f"{source} is not a NIR file: {error}") from error
    if not isinstance(source, nir.NIRGraph):
        raise InputError(f"from_nir: give a path or a nir.NIRGraph, got {type(source).__name__}")
    given = [name for name, value in (("dt", dt), ("written_by", written_by), ("reset", reset)) if value is not None]
    if given and any("spikekit" in node.metadata for node in source.nodes.values()):
        raise InputError(f"from_nir: spikekit wrote this, and it says {' and '.join(given)} itself; leave that out")
    reading = Reading(_STEPS[written_by] if dt is None else dt, written_by, reset, dtype)
    chain = Chain(surrogate)
    followers: dict[str, list[str]] = {name: [] for name in source.nodes}
    for before, after in dict.fromkeys(map(tuple, source.edges)):
        followers[before].append(after)
    for name in _starts(nir, source, followers):
        _walk(nir, source, followers, name, chain, reading)
    return chain.sequential()


def _starts(nir: Any, graph: Any, followers: dict[str, list[str]]) -> list[str]:
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise ExportError(f"the graph has {len(starts)} inputs ({', '.join(starts)}); we read chains, with one")
    return starts


def _walk(nir: Any, graph: Any, followers: dict[str, list[str]], name: str, chain: Chain, reading: Reading) -> None:
    seen: set[str] = set()
    while True:
        if name in seen:
            raise ExportError(f"node {name!r} ({_kind(graph, name)}) is part of a loop; recurrent nodes are not read")
        seen.add(name)
        node, after = graph.nodes[name], followers[name]
        if isinstance(node, nir.Output):
            return
        if isinstance(node, (nir.LI, nir.I)) and len(after) == 1 and _kind(graph, after[0]) == "Threshold":
            membrane, name = node, after[0]
            feedback = [n for n in followers[name] if _kind(graph, n) == "Scale"]
            scale = graph.nodes[feedback[0]].scale if feedback else None
            if feedback and followers[feedback[0]] != [_name_of(graph, membrane)]:
                raise ExportError(f"node {feedback[0]!r} (Scale) does not lead back to its membrane; it is not read")
            soft_reset(name, membrane, graph.nodes[name], scale, chain, reading)
            after = [n for n in followers[name] if n not in feedback]
        elif type(node).__name__ in _NEURONS:
            add_neuron(name, node, chain, reading)
        elif not isinstance(node, nir.Input):
            chain.add(_layer(name, node, reading.dtype))
        if len(after) != 1:
            raise ExportError(
                f"node {name!r} ({_kind(graph, name)}) leads to {len(after)} nodes {after}; we read chains, without "
                "branches and recurrent connections"
            )
        name = after[0]


def _kind(graph: Any, name: str) -> str:
    return type(graph.nodes[name]).__name__


def _name_of(graph: Any, node: Any) -> str:
    return next(name for name, candidate in graph.nodes.items() if candidate is node)


def _layer(name: str, node: Any, dtype: torch.dtype) -> nn.Module:
    """A node without state as a layer of torch's."""
    kind = type(node).__name__
    if kind in ("Affine", "Linear"):
        weight = _tensor(node.weight, dtype)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=kind == "Affine", dtype=dtype)
        return _filled(linear, weight, _tensor(node.bias, dtype) if kind == "Affine" else None)
    if kind in ("Conv1d", "Conv2d"):
        weight, bias, groups = _tensor(node.weight, dtype), _tensor(node.bias, dtype), int(node.groups)
        make: Any = nn.Conv1d if kind == "Conv1d" else nn.Conv2d
        conv = make(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),
            _sizes(node.stride),
            node.padding if isinstance(node.padding, str) else _sizes(node.padding),
            _sizes(node.dilation),
            groups,
            bias=bool(bias.any()),
            dtype=dtype,
        )
        return _filled(conv, weight, bias if bool(bias.any()) else None)
    if kind == "Flatten":
        start, end = int(node.start_dim), int(node.end_dim)
        # NIR counts without the batch, which our layers see first.
        return nn.Flatten(start + (start >= 0), end + (end >= 0))
    if kind in ("AvgPool2d", "SumPool2d"):
        kernel, stride, padding = (_sizes(value) for value in (node.kernel_size, node.stride, node.padding))
        return nn.AvgPool2d(kernel, stride, padding, divisor_override=1 if kind == "SumPool2d" else None)
    raise ExportError(
        f"node {name!r} ({kind}) is not read; we read Affine, Linear, Conv1d, Conv2d, Flatten, AvgPool2d, SumPool2d, "
        f"{', '.join(_NEURONS)}, in a chain. Recurrent layers come as an NIRGraph inside the graph."
    )


def _filled(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(values)).to(dtype)


def _sizes(value: Any) -> Any:
    sizes = [int(size) for size in np.atleast_1d(np.array(value))]
    return sizes[0] if len(sizes) == 1 else tuple(sizes)
