"""Each process of a distributed run gets its own batches of one common order."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from spikekit.errors import InputError
from spikekit.train.seeding import seed_loader


class BatchShare:
    """Every `world`-th batch of a batch sampler, starting with number `rank`.

    even: repeat batches from the start of the order until all processes have the same number, which gradient
    averaging needs; without it every batch is seen exactly once, which metrics need.
    """

    def __init__(self, batches: Any, rank: int, world: int, even: bool) -> None:
        self.batches, self.rank, self.world, self.even = batches, rank, world, even
        self._order: list[Any] | None = None

    def draw(self) -> None:
        """Draw the common order; to be called in the same state of the random generators in every process."""
        self._order = list(self.batches)

    def __iter__(self) -> Iterator[Any]:
        order = list(self.batches) if self._order is None else self._order
        if self.even and order:
            missing = -len(order) % self.world
            order = order + [order[i % len(order)] for i in range(missing)]
        return iter(order[self.rank :: self.world])

    def __len__(self) -> int:
        total = len(self.batches)
        if self.even:
            return -(-total // self.world)
        return len(range(self.rank, total, self.world))


def shard(loader: Any, rank: int, world: int, *, even: bool) -> Any:
    """`loader` itself in a run of one process, otherwise a copy of it that yields this process's batches.

    The batch size stays what it is: `world` processes take `world` batches at a time. A loader that already
    has a DistributedSampler is left alone. Raises InputError for loaders that cannot be divided.
    """
    if world == 1 or isinstance(getattr(loader, "sampler", None), DistributedSampler):
        return loader
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        what = "an IterableDataset" if isinstance(loader, DataLoader) else type(loader).__name__
        raise InputError(
            f"{what} cannot be divided over {world} processes: every process would see the same samples. "
            "Use a torch DataLoader over a dataset with __getitem__ and __len__"
        )
    share = copy.copy(loader)
    which = "sampler" if loader.batch_sampler is None else "batch_sampler"
    # DataLoader forbids setting these, so that nobody changes a loader in use; this one is new.
    vars(share)[which] = BatchShare(getattr(loader, which), rank, world, even)
    vars(share)["_iterator"] = None
    return share


def begin_epoch(loader: Any, seed: int, epoch: int, rank: int) -> None:
    """Seed everything for `epoch`: one order of samples for all processes, own dropout and augmentation."""
    seed_loader(loader, seed, epoch)
    for sampler in (getattr(loader, "batch_sampler", None), getattr(loader, "sampler", None)):
        if isinstance(sampler, BatchShare):
            seed_loader(sampler.batches, seed, epoch)
            sampler.draw()
        elif sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
    seed_loader(loader, seed, epoch, 1 + rank)
