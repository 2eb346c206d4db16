"""Which layer follows which, as far as chains tell: `sk.Sequential` and `nn.Sequential`, wherever they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from spikekit.layers import altered, is_idle
from spikekit.sequential import FoldTime, Sequential

_CHAIN_FORWARDS = (nn.Sequential.forward, Sequential.forward)


class Wiring:
    """The layers of a network with their neighbours in all chains they are part of.

    A layer that a module of another kind holds has unknown neighbours, None: its forward may do anything.
    """

    def __init__(self, net: nn.Module) -> None:
        self.before: dict[nn.Module, set[nn.Module | None]] = defaultdict(set)
        self.after: dict[nn.Module, set[nn.Module | None]] = defaultdict(set)
        for chain in _chains(net):
            layers = [None, *(layer for layer in chain if not is_idle(layer)), None]
            for first, second in pairwise(layers):
                if first is not None:
                    self.after[first].add(second)
                if second is not None:
                    self.before[second].add(first)

    def only_before(self, layer: nn.Module) -> nn.Module | None:
        """The one layer whose output is all that `layer` gets, and which feeds nothing else; None if there is none."""
        found = self.before[layer]
        if len(found) != 1:
            return None
        (other,) = found
        return other if other is not None and self.after[other] == {layer} else None


def replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `net` holds `old`."""
    for module in list(net.modules()):
        for key, child in module._modules.items():
            if child is old:
                module._modules[key] = new


def _is_chain(module: nn.Module) -> bool:
    chain = isinstance(module, FoldTime) or type(module).forward in _CHAIN_FORWARDS
    return chain and not altered(module)


def _chains(net: nn.Module) -> Iterator[list[nn.Module]]:
    """Every chain from end to end, those inside of it unrolled; a layer on its own is a chain of one."""
    pending, seen = [net], set[nn.Module]()
    while pending:
        head = pending.pop()
        chain = list(_unrolled(head))
        yield chain
        for layer in chain:
            if layer not in seen:
                seen.add(layer)
                pending.extend(child for child in layer._modules.values() if child is not None)


def _unrolled(module: nn.Module) -> Iterator[nn.Module]:
    if not _is_chain(module):
        yield module
        return
    for child in module._modules.values():
        if child is not None:
            yield from _unrolled(child)
