"""Operations in place, in a forward that is read: only where nothing else could see the tensor that they change.

A plan holds values, not memory. `y += x` is read as `y = y + x`, which is the same unless y, or a tensor that shares
its memory, is looked at later under another name. A module of the user's own that returns its input is not known to
share it: `faithful.py` finds what slips through here.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from spikekit.errors import ExportError

_OPERATORS = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
# What gives its input, or a view of it.
_VIEWS = (
    torch.flatten,
    "flatten",
    "unflatten",
    "contiguous",
    torch.detach,
    "detach",
    F.dropout,
    F.dropout1d,
    F.dropout2d,
)
_PASSES = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d)


class InPlaceProxy(fx.Proxy):
    """A value of a traced forward, whose `+=` stays one: torch.fx itself would make it `+`."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


def check_in_place(name: str, graph: fx.Graph, called: dict[str, nn.Module]) -> None:
    """Raise ExportError where a value that an operation changes in place is used again, or is the forward's input.

    name: what errors call the module. called: graph target -> module, of the modules that the graph calls.
    """
    owner: dict[fx.Node, fx.Node] = {}
    stale: dict[fx.Node, str] = {}
    for node in graph.nodes:
        for given in node.all_input_nodes:
            if given in stale:
                raise ExportError(
                    f"{name}: {node.name} uses a tensor that {stale[given]} has changed in place; "
                    "write y = y + x in place of y += x"
                )
        changes = _changes(node)
        first = node.all_input_nodes[0] if node.all_input_nodes else None
        shares = first is not None and (changes or _passes(node, called))
        owner[node] = owner[first] if first is not None and shares else node
        if not changes:
            continue
        if owner[node].op == "placeholder":
            raise ExportError(
                f"{name}: {node.name} changes the input of the forward in place, which others may use; "
                "write x = x + y in place of x += y"
            )
        stale |= {other: node.name for other, its in owner.items() if its is owner[node] and other is not node}


def _changes(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _OPERATORS
    return node.op == "call_method" and str(node.target).endswith("_")


def _passes(node: fx.Node, called: dict[str, nn.Module]) -> bool:
    """Whether the node may give its input, or a view of it."""
    if node.op in ("call_function", "call_method"):
        return node.target in _VIEWS
    if node.op != "call_module":
        return False
    return all(isinstance(part, _PASSES) for part in called[str(node.target)].modules() if not list(part.children()))
