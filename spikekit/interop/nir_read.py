"""NIR, read: a chain of nodes becomes an `sk.Sequential`; what a file cannot say is asked for, never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
_TIMES = ("tau", "tau_mem", "tau_syn")
_VALUES = frozenset({"weight", "bias", "r", "w_in", "scale", "threshold", "v_threshold", "v_leak", "v_reset", *_TIMES})
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
    if dt is not None and not (isinstance(dt, (int, float)) and 0 < dt < float("inf")):
        raise InputError(f"from_nir: dt must be a positive number of seconds, got {dt!r}")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"from_nir: dtype must be a floating point type, got {dtype!r}")
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
    followers = _followers(source)
    seen = _walk(nir, source, followers, _start(nir, source), chain, reading)
    if left := [name for name in source.nodes if name not in seen]:
        raise ExportError(
            f"node {left[0]!r} ({_kind(source, left[0])}) is not on the way from the input to the output"
            + (f", and leads to {followers[left[0]]}" if followers[left[0]] else "")
            + "; we read chains, without branches and recurrent connections"
        )
    return chain.sequential()


def _followers(graph: Any) -> dict[str, list[str]]:
    """The nodes that each node leads to."""
    followers: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for before, after in dict.fromkeys(map(tuple, graph.edges)):
        for name in (before, after):
            if name not in followers:
                raise ExportError(f"the edge {before!r} -> {after!r} names a node {name!r} that the graph lacks")
        followers[before].append(after)
    return followers


def _start(nir: Any, graph: Any) -> str:
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise ExportError(f"the graph has {len(starts)} inputs ({', '.join(starts)}); we read chains, with one")
    return starts[0]


def _walk(nir: Any, graph: Any, followers: dict[str, list[str]], name: str, chain: Chain, reading: Reading) -> set[str]:
    """Add the chain that starts at `name`; returns the names of the nodes that were read."""
    seen: set[str] = set()
    while True:
        if name in seen:
            raise ExportError(f"node {name!r} ({_kind(graph, name)}) is part of a loop; recurrent nodes are not read")
        seen.add(name)
        node, after = graph.nodes[name], followers[name]
        if isinstance(node, nir.Output):
            if after:
                raise ExportError(f"node {name!r} (Output) leads to {after}; recurrent nodes are not read")
            return seen
        with reading_node(name, node):
            if isinstance(node, (nir.LI, nir.I)) and len(after) == 1 and _kind(graph, after[0]) == "Threshold":
                membrane, name = name, after[0]
                feedback = [n for n in followers[name] if _kind(graph, n) == "Scale"]
                if feedback and (len(feedback) > 1 or followers[feedback[0]] != [membrane]):
                    raise ExportError(
                        f"node {feedback[0]!r} (Scale) does not lead back to {membrane!r} alone; it is not read"
                    )
                scale = graph.nodes[feedback[0]] if feedback else None
                for other in (name, *feedback):
                    check_values(other, graph.nodes[other])
                soft_reset(name, node, graph.nodes[name], scale, chain, reading)
                seen.update(feedback, [name])
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


@contextmanager
def reading_node(name: str, node: Any) -> Iterator[None]:
    """What is wrong with the values of a node becomes an error that names it."""
    try:
        check_values(name, node)
        yield
    except (InputError, ValueError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"node {name!r} ({type(node).__name__}) holds values that do not fit: {error}") from error


def check_values(name: str, node: Any) -> None:
    """Raise ExportError for a parameter of a node that is no finite number.

    Time constants may be infinite, and so may the input resistance beside one, which is what beta = 1 is written as.
    """
    endless = any(np.isinf(getattr(node, key, 0.0)).any() for key in _TIMES[:2])
    for key in sorted(_VALUES & vars(node).keys()):
        values = np.asarray(getattr(node, key))
        fits, may = values.dtype.kind in "fiub", key in _TIMES or (key == "r" and endless)
        if not fits or np.isnan(values).any() or (np.isinf(values).any() and not may):
            found = "values that are not finite" if fits else f"{values.dtype} values"
            raise ExportError(f"node {name!r} ({type(node).__name__}): {key} holds {found}; the file is damaged")


def _kind(graph: Any, name: str) -> str:
    return type(graph.nodes[name]).__name__


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
