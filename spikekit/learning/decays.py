"""Which decay the presynaptic trace of a layer has: that of the neurons behind it, which integrate what it gives."""

from __future__ import annotations

from collections.abc import Container, Iterable

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.neurons import CUBALIF, LI, LIF, FoldedLIF, Neuron, RecurrentLIF

# The filters that a drive goes through on its way to the membrane that decides, in their order.
_FILTERS: dict[type[Neuron], tuple[str, ...]] = {
    LIF: ("beta",),
    FoldedLIF: ("beta",),
    LI: ("beta",),
    CUBALIF: ("alpha", "beta"),
}

Source = tuple[str, int]
"""Path of a weight layer, and which of its calls in one step."""


def neurons(net: nn.Module, who: str) -> dict[str, Neuron]:
    """Path -> neuron, none of them recurrent or modulated."""
    found = {name: module for name, module in net.named_modules() if isinstance(module, Neuron)}
    for name, neuron in found.items():
        if isinstance(neuron, RecurrentLIF):
            raise InputError(
                f"{who}: {name or 'the network'!r} is a RecurrentLIF, whose recurrent weights it does not train; "
                "use BPTT, or a LIF"
            )
        if neuron._modules.get("astrocyte") is not None:
            raise InputError(
                f"{who}: {name or 'the network'!r} has an astrocyte, whose traces of the past it does not know; "
                "use BPTT"
            )
    return found


def one_number(name: str, neuron: Neuron, parameter: str, who: str) -> float:
    """The value of a decay or quantum, if it is the same in all neurons of the layer."""
    value: Tensor = getattr(neuron, parameter).detach()
    if not bool((value == value.flatten()[0]).all()):
        raise InputError(
            f"{who}: {parameter} of {name or 'the network'!r} differs between its neurons, and one number a layer is "
            "needed; make it so, or use BPTT"
        )
    return float(value.flatten()[0])


def filters(name: str, neuron: Neuron, who: str) -> tuple[float, ...]:
    """The decays of a neuron's drive on its way to the membrane."""
    kind = next((kind for kind in _FILTERS if isinstance(neuron, kind)), None)
    if kind is None:
        raise InputError(
            f"{who}: {name or 'the network'!r} is a {type(neuron).__name__}, whose decay it does not know; "
            f"give decay=..., or use one of {sorted(kind.__name__ for kind in _FILTERS)}"
        )
    return tuple(one_number(name, neuron, parameter, who) for parameter in _FILTERS[kind])


def behind(
    drives: Iterable[tuple[str, Tensor]],
    outputs: Iterable[Tensor],
    decays: dict[str, tuple[float, ...]],
    given: Container[str],
    who: str,
) -> dict[Source, tuple[float, ...]]:
    """The decays of the neurons that the output of each weight layer drives, read off the graph of a step.

    drives, outputs: path and drive, and output, of every call of a neuron. decays: of the neurons, by path.
    given: layers of which it does not matter.
    """
    ends = {output.grad_fn for output in outputs}
    found: dict[Source, tuple[float, ...]] = {}
    for path, drive in drives:
        todo, seen = [drive.grad_fn], set[torch.autograd.graph.Node]()
        while todo:
            node = todo.pop()
            if node is None or node in seen or node in ends:
                continue
            seen.add(node)
            source: Source | None = getattr(node, "source", None)
            if source is not None and source[0] not in given and found.setdefault(source, decays[path]) != decays[path]:
                raise InputError(
                    f"{who}: layer {source[0]!r} drives neurons of different decays, {found[source]} and "
                    f"{decays[path]}; give decay={{{source[0]!r}: ...}}"
                )
            todo.extend(child for child, _ in node.next_functions)
    return found
