"""Processes that share statistics, as threads of one: their collectives meet at a barrier. Fast, and no sockets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from spikekit.ops.mpbn import sync


class _Group:
    """What `spikekit.ops.mpbn.sync` asks of torch.distributed, for as many threads."""

    def __init__(self, size):
        self.size, self.collectives = size, 0
        self._barrier, self._local, self._parts = threading.Barrier(size, timeout=30), threading.local(), [None] * size

    def enter(self, rank):
        self._local.rank = rank

    def _meet(self, own):
        self._parts[self._local.rank] = own.clone()
        if self._barrier.wait() == 0:
            self.collectives += 1
        parts = list(self._parts)
        self._barrier.wait()
        return parts

    def is_available(self):
        return True

    def is_initialized(self):
        return hasattr(self._local, "rank")

    def get_world_size(self):
        return self.size

    def all_gather(self, into, own):
        for place, part in zip(into, self._meet(own), strict=True):
            place.copy_(part)

    def all_reduce(self, own):
        own.copy_(torch.stack(self._meet(own)).sum(0))


@pytest.fixture
def in_processes(monkeypatch):
    """run(work, size): what work(rank) returns in each of `size` processes, and how many collectives there were."""

    def run(work, size):
        group = _Group(size)
        monkeypatch.setattr(sync, "dist", group)

        def one(rank):
            group.enter(rank)
            return work(rank)

        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(one, range(size))), group.collectives

    return run
