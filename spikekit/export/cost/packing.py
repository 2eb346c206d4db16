"""One layer's neurons put into cores in a given order, as many into each as fit.

Found by bisection: what a core must hold only grows with its neurons. Memory is counted as nengo-loihi does for Loihi
1: the synapses of an input axon lie in blocks, each with a head and rounded up, either a weight for every neuron of the
core or a weight and an index for every real synapse, whichever is smaller. Weights that a convolution could share
between axons are not shared, so the counts are from above.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from spikekit.export.cost.targets import Target

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

    @property
    def last(self) -> int:
        """One more than the largest number that it listens to."""
        return int(self.pre.max()) + 1 if len(self.pre) else 0


@dataclass(frozen=True)
class Core:
    """What one core holds."""

    neurons: int
    in_axons: int
    out_axons: int
    memory_bits: int
    thresholds: int
    configs: int


@dataclass(frozen=True, eq=False)
class Axons:
    """Input axons of a layer: the neuron of the network behind each, and the axon of each synapse."""

    neurons: Ints
    of_synapses: Ints

    @staticmethod
    def of(layer: Wiring) -> Axons:
        """Those of `layer`."""
        count = max(layer.last, 1)
        keys = layer.pre if layer.group is None else layer.pre + count * layer.group
        there = np.bincount(keys, minlength=1) > 0
        return Axons(np.flatnonzero(there) % count, (np.cumsum(there) - 1)[keys])


class Packer:
    """The neurons of a layer in one order, and the cores that take them. sent: cores that listen to each neuron."""

    def __init__(self, layer: Wiring, target: Target, axons: Axons, order: Ints, sent: Ints) -> None:
        self.layer, self.target, self.axons = layer, target, axons
        # Small numbers are sorted by their digits, which takes a tenth of the time.
        places = np.empty(len(order), np.uint16 if len(order) <= 2**16 else np.int64)
        places[order] = np.arange(len(order))
        by_place = places[layer.post]
        self.pre = axons.of_synapses[np.argsort(by_place, kind="stable")]
        self.ends = np.concatenate([[0], np.cumsum(np.bincount(by_place, minlength=len(order)))])
        self.sent = np.concatenate([[0], np.cumsum(sent[order])])
        self.thresholds, self.configs = layer.thresholds[order], layer.configs[order]
        self.weight_bits = next(bits for bits in (*_WEIGHT_BITS, layer.weight_bits) if bits >= layer.weight_bits)
        self.edges, self.cores, self.limits = [0], list[Core](), list[str]()
        self.failed: Core | None = None
        self._pack()

    def core(self, start: int, stop: int) -> Core:
        """What a core holds that has neurons start to stop."""
        counts = np.bincount(self._inputs(start, stop))
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

    def listeners(self, total: int) -> Ints:
        """How many cores listen to each of the `total` neurons of the network."""
        found = np.zeros(total, np.int64)
        for start, stop in pairwise(self.edges):
            np.add.at(found, self.axons.neurons[np.unique(self._inputs(start, stop))], 1)
        return found

    def _inputs(self, start: int, stop: int) -> Ints:
        """The axons of the synapses of neurons start to stop, with repetition."""
        return self.pre[self.ends[start] : self.ends[stop]]

    def _bits(self, synapses: Ints, each: int) -> Ints:
        """Memory of axons with that many synapses of `each` bits."""
        block, head, word = (self.target.size(key) for key in ("block_synapses", "block_bits", "word_bits"))
        rest = synapses % block
        full = -(-(block * each + head) // word) * word
        part = np.where(rest > 0, -(-(rest * each + head) // word) * word, 0)
        return synapses // block * full + part

    def _pack(self) -> None:
        """Cores from the first neuron to the last; `failed` holds one neuron that no core can."""
        while self.edges[-1] < self.layer.neurons:
            held, limit = self._largest(self.edges[-1])
            if held is None:
                # The one with most synapses, if it is too large too, is the one to design for.
                largest = int(np.diff(self.ends).argmax())
                alone = (self.core(at, at + 1) for at in (largest, self.edges[-1]))
                self.failed = next(core for core in alone if exceeded(core, self.target))
                self.edges, self.cores = [0], []
                return
            self.cores.append(held)
            self.limits += [limit] if limit else []
            self.edges.append(self.edges[-1] + held.neurons)

    def _largest(self, start: int) -> tuple[Core | None, str]:
        """The largest core from neuron `start` on, and the limit that one neuron more would break; "" at the end."""
        left = self.layer.neurons - start
        room = int(min(self.target.most("neurons"), left))
        limit = "" if room == left else "neurons"
        # So many fit, and so many do not. A core is about as large as the one before.
        good, bad, held = 0, room + 1, None
        trial = min(self.cores[-1].neurons, room) if self.cores else room
        while bad - good > 1:
            core = self.core(start, start + trial)
            if over := exceeded(core, self.target):
                bad, limit = trial, over
                near = trial * 15 // 16 if self.cores and held is None else 0
            else:
                good, held = trial, core
                near = trial * 17 // 16 + 1 if self.cores and bad > room else 0
            trial = near if good < near < bad else (good + bad) // 2
        return held, limit


def exceeded(core: Core, target: Target) -> str:
    """The first limit that a core is beyond; "" for none."""
    keys = ("neurons", "in_axons", "memory_bits", "thresholds", "configs", "out_axons")
    return next((key for key in keys if getattr(core, key) > target.most(key)), "")


def _index_bits(neurons: int) -> int:
    """Bits that tell one of so many neurons from the others."""
    needed = (neurons - 1).bit_length()
    return next((bits for bits in _INDEX_BITS if bits >= needed), needed)
