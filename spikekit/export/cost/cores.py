"""How many cores of a chip a network needs, counted from its real synapses; how they are counted is in `packing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from spikekit.export.cost.packing import Axons, Core, Ints, Packer, Wiring, exceeded
from spikekit.export.cost.targets import Target

# Rounds in which layers with feedback learn who listens to them: it settles in two, or is from below by a few.
_ROUNDS = 4


@dataclass(frozen=True)
class Placement:
    """One layer on one chip.

    cores: what each holds; empty where it does not fit, and `reason` says why. order: of the neurons, "channels" (as in
    torch), "pixels" (all channels of a pixel together) or "thresholds" (those that share a core's thresholds together).
    bound: the limit that ends most cores. way_out: what to do where it does not fit, or needs more cores than it must.
    """

    layer: str
    target: str
    cores: tuple[Core, ...]
    order: str
    bound: str = ""
    reason: str = ""
    way_out: str = ""

    @property
    def fits(self) -> bool:
        """Whether every neuron has a core."""
        return not self.reason


def place(layers: Sequence[Wiring], target: Target) -> tuple[Placement, ...]:
    """Every layer in cores of its own. layers: in the order of the data; feedback may go anywhere."""
    return place_and_listen(layers, target)[0]


def place_and_listen(layers: Sequence[Wiring], target: Target) -> tuple[tuple[Placement, ...], Ints]:
    """As `place`, and how many cores listen to each neuron of the network, by number."""
    total = max(max(layer.first + layer.neurons, layer.last) for layer in layers)
    feedback = any(layer.last > layer.first for layer in layers)
    listeners = np.zeros(total, np.int64)
    # Who listens to a layer is known once all that follows is placed; with feedback, after a first round.
    for _ in range(_ROUNDS if feedback else 1):
        heard = np.zeros(total, np.int64)
        placed: list[Placement] = []
        for layer in reversed(layers):
            sent = (listeners if feedback else heard)[layer.first : layer.first + layer.neurons]
            placement, packer = _place(layer, target, sent)
            heard += packer.listeners(total)
            placed.insert(0, placement)
        if (heard <= listeners).all():
            break
        listeners = np.maximum(listeners, heard)
    return tuple(placed), heard


def _place(layer: Wiring, target: Target, sent: Ints) -> tuple[Placement, Packer]:
    """The best of all orders of the neurons: one that fits, in few cores, with few axons."""
    axons = Axons.of(layer)
    packers = {name: Packer(layer, target, axons, order, sent) for name, order in _orders(layer, target).items()}

    def costs(name: str) -> tuple[bool, int, int]:
        packer = packers[name]
        return packer.failed is not None, len(packer.cores), sum(core.in_axons for core in packer.cores)

    order = min(packers, key=costs)
    best = packers[order]
    if best.failed is not None:
        reason, way_out = _impossible(best.failed, target)
        return Placement(layer.name, target.name, (), order, reason=reason, way_out=way_out), best
    bound = max(sorted(set(best.limits)), key=best.limits.count) if best.limits else ""
    many = layer.fires and len(np.unique(layer.thresholds)) > target.most("thresholds")
    way_out = "A core holds few thresholds: to need fewer cores, share them with thresholds='group' of to_loihi."
    return Placement(layer.name, target.name, tuple(best.cores), order, bound, way_out=way_out if many else ""), best


def _orders(layer: Wiring, target: Target) -> dict[str, Ints]:
    image = len(layer.shape) == 3 and layer.shape[0] > 1 and prod(layer.shape[1:]) > 1
    orders = {"channels": np.arange(layer.neurons)}
    if image:
        orders["pixels"] = np.arange(layer.neurons).reshape(layer.shape[0], -1).T.flatten()
    distinct, kinds = np.unique(layer.thresholds, return_inverse=True)
    most = target["thresholds"]
    if layer.fires and most is not None and len(distinct) > most:
        order = orders["pixels" if image else "channels"]
        orders["thresholds"] = order[np.argsort((kinds.reshape(-1) // most)[order], kind="stable")]
    return orders


def _impossible(core: Core, target: Target) -> tuple[str, str]:
    """Why a core cannot hold even this one neuron, and the way out."""
    key = exceeded(core, target)
    found, most = getattr(core, key), target[key]
    if key == "in_axons":
        return (
            f"a neuron has {found:,} inputs, a core of {target.name} at most {most:,}",
            "Put a strided convolution or pooling before it, or split the layer into parts whose sums meet in another.",
        )
    if key == "memory_bits":
        return (
            f"one neuron's {found:,} bits of synapses are beyond a core's {most:,} of {target.name}",
            "Use fewer weight bits (to_loihi: weight_bits), or fewer inputs.",
        )
    return (
        f"{found:,} cores listen to one neuron, {target.name} sends to at most {most:,}",
        "Make the layer after it smaller, so that fewer cores hold it.",
    )
