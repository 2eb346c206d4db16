"""How many cores of a chip a network needs, counted from its real synapses.

Neurons are put into cores in their order, as many as fit, found by bisection: what a core must hold only grows with
them. Memory is counted as nengo-loihi does for Loihi 1: the synapses of an input axon lie in blocks, each with a head
and rounded up, either a weight for every neuron of the core or a weight and an index for every real synapse, whichever
is smaller. Weights that a convolution could share between axons are not shared, so that the counts are from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from spikekit.export.targets import Target

Ints = NDArray[np.int64]

_WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 8)
_INDEX_BITS = (0, 6, 7, 8, 9, 10, 11, 12)


@dataclass(frozen=True, eq=False)
class Wiring:
    """One layer as cores see it.

    first: number of its first neuron among all of the network, the input's included. post, pre: real synapses, by
    neuron of the layer and by number in the network. group: which of several sets of synapses each belongs to; a
    neuron that comes by two has two axons. thresholds, configs: a value a neuron; equal ones are shared. shape: of the
    layer, (C, H, W) for images. fires: it sends spikes.
    """

    name: str
    first: int
    shape: tuple[int, ...]
    post: Ints
    pre: Ints
    weight_bits: int
    thresholds: Ints
    configs: Ints
    fires: bool = True
    group: Ints | None = None

    @property
    def neurons(self) -> int:
        """Their number."""
        return prod(self.shape)


@dataclass(frozen=True)
class Core:
    """What one core holds."""

    neurons: int
    in_axons: int
    out_axons: int
    memory_bits: int
    thresholds: int
    configs: int


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
    order: str = "channels"
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
    total = max(max((layer.first + layer.neurons for layer in layers), default=0), *(_last(layer) for layer in layers))
    feedback = any(len(layer.pre) and layer.pre.max() >= layer.first for layer in layers)
    listeners = heard = np.zeros(total, np.int64)
    placed: list[Placement] = []
    # Who listens is known once all that follows is placed; with feedback, after a first round.
    for _ in range(2 if feedback else 1):
        heard, placed = np.zeros(total, np.int64), []
        for layer in reversed(layers):
            known = listeners if feedback else heard
            sent = known[layer.first : layer.first + layer.neurons]
            placement, counts = _place(layer, target, np.where(layer.fires, sent, 0))
            heard += counts(total)
            placed.insert(0, placement)
        listeners = np.maximum(listeners, heard)
    return tuple(placed), heard


def _last(layer: Wiring) -> int:
    return int(layer.pre.max()) + 1 if len(layer.pre) else 0


class _Listening:
    """How many cores of a layer listen to each neuron of the network."""

    def __init__(self, packer: _Packer, edges: Sequence[int]) -> None:
        self.packer, self.edges = packer, edges

    def __call__(self, total: int) -> Ints:
        found = np.zeros(total, np.int64)
        for start, stop in pairwise(self.edges):
            np.add.at(found, self.packer.axons[np.unique(self.packer.inputs(start, stop))], 1)
        return found


def _place(layer: Wiring, target: Target, sent: Ints) -> tuple[Placement, _Listening]:
    """The best of all orders of the neurons."""
    found = []
    for name, order in _orders(layer, target).items():
        packer = _Packer(layer, target, order, sent)
        placement, edges = packer.pack()
        found.append((replace(placement, order=name), _Listening(packer, edges)))
    # One that fits before one that does not; then fewer cores; then fewer axons.
    return min(
        found, key=lambda pair: (not pair[0].fits, len(pair[0].cores), sum(core.in_axons for core in pair[0].cores))
    )


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


class _Packer:
    """Fills cores with neurons in one order, as many as fit."""

    def __init__(self, layer: Wiring, target: Target, order: Ints, sent: Ints) -> None:
        self.layer, self.target = layer, target
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        by_place = np.argsort(place[layer.post], kind="stable")
        count = _last(layer)
        keys, numbers = np.unique(
            layer.pre if layer.group is None else layer.pre + count * layer.group, return_inverse=True
        )
        self.axons = keys % max(count, 1)
        self.pre = numbers.reshape(-1)[by_place]
        self.ends = np.concatenate([[0], np.cumsum(np.bincount(place[layer.post], minlength=len(order)))])
        self.sent = np.concatenate([[0], np.cumsum(sent[order])])
        self.thresholds, self.configs = layer.thresholds[order], layer.configs[order]
        self.weight_bits = next(bits for bits in (*_WEIGHT_BITS, layer.weight_bits) if bits >= layer.weight_bits)

    def inputs(self, start: int, stop: int) -> Ints:
        """The presynaptic neurons of the synapses of neurons start to stop, with repetition."""
        return self.pre[self.ends[start] : self.ends[stop]]

    def core(self, start: int, stop: int) -> Core:
        """What a core holds that has neurons start to stop."""
        counts = np.bincount(self.inputs(start, stop))
        counts = counts[counts > 0]
        size = stop - start
        sparse = self._bits(counts, self.weight_bits + _index_bits(size))
        dense = self._bits(np.full(1, size), self.weight_bits)
        bits = int(np.minimum(sparse, dense).sum()) + size * self.target.size("state_bits")
        return Core(
            neurons=size,
            in_axons=len(counts),
            out_axons=int(self.sent[stop] - self.sent[start]),
            memory_bits=bits,
            thresholds=len(np.unique(self.thresholds[start:stop])) if self.layer.fires else 0,
            configs=len(np.unique(self.configs[start:stop])),
        )

    def _bits(self, synapses: Ints, each: int) -> Ints:
        """Memory of axons with that many synapses of `each` bits."""
        block, head, word = (self.target.size(key) for key in ("block_synapses", "block_bits", "word_bits"))
        rest = synapses % block
        full = -(-(block * each + head) // word) * word
        part = np.where(rest > 0, -(-(rest * each + head) // word) * word, 0)
        return synapses // block * full + part

    def pack(self) -> tuple[Placement, list[int]]:
        """Cores from the first neuron to the last, and where they begin and end."""
        layer, target = self.layer, self.target
        cores: list[Core] = []
        edges, bounds = [0], []
        while edges[-1] < layer.neurons:
            start = edges[-1]
            # `good` is known to fit, `bad` not to.
            good, bad = start, min(start + int(min(target.most("neurons"), layer.neurons)), layer.neurons) + 1
            held = None
            trial = bad - 1
            while bad - good > 1:
                core = self.core(start, trial)
                if over := exceeded(core, target):
                    bad, limit = trial, over
                else:
                    good, held = trial, core
                trial = (good + bad) // 2
            if held is None:
                reason, way = _impossible(layer, self.core(start, start + 1), target)
                return Placement(layer.name, target.name, (), reason=reason, way_out=way), [0]
            if good < layer.neurons:
                full = target["neurons"] is not None and good - start >= target.most("neurons")
                bounds.append("neurons" if full else limit)
            cores.append(held)
            edges.append(good)
        bound = max(sorted(set(bounds)), key=bounds.count) if bounds else ""
        way = ""
        if layer.fires and len(np.unique(layer.thresholds)) > target.most("thresholds"):
            way = "A core holds few thresholds: share them with to_loihi(..., thresholds='group') to need fewer cores."
        return Placement(layer.name, target.name, tuple(cores), bound=bound, way_out=way), edges


def exceeded(core: Core, target: Target) -> str:
    """The first limit that a core is beyond; "" for none."""
    keys = ("neurons", "in_axons", "memory_bits", "thresholds", "configs", "out_axons")
    return next((key for key in keys if getattr(core, key) > target.most(key)), "")


def _index_bits(neurons: int) -> int:
    """Bits that tell one of so many neurons from the others."""
    needed = (neurons - 1).bit_length()
    return next((bits for bits in _INDEX_BITS if bits >= needed), needed)


def _impossible(layer: Wiring, core: Core, target: Target) -> tuple[str, str]:
    """Why not even one neuron fits, and the way out."""
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
    if key == "out_axons":
        return (
            f"{found:,} cores listen to one neuron, {target.name} sends to at most {most:,}",
            "Make the layer after it smaller, so that fewer cores hold it.",
        )
    return f"one neuron needs {found:,} {key}, a core of {target.name} has {most:,}", "Edit the table of the target."
