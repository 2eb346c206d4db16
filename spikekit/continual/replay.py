"""Replay: a few samples of old tasks are kept and learned again with the new ones.

Chaudhry et al. 2019, arXiv 1902.10486 (experience replay), with as many samples of each task in the memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikekit.continual.batch import Batch
from spikekit.continual.method import Method
from spikekit.continual.numbers import whole
from spikekit.errors import InputError


class Replay(Method):
    """Learn tasks one after the other, with old samples in every batch.

    capacity: samples in memory, shared equally by the tasks so far; those of a task are taken from the `batches` that
    `end_task` is given. Each batch of a later task gains as many old samples as it has, drawn at random with `seed`: a
    step costs twice as much. Raises InputError when `end_task` gets no batches.
    """

    def __init__(self, net: nn.Module, *, capacity: int = 200, seed: int = 0) -> None:
        super().__init__(net)
        self.capacity, self._seed = whole("Replay", "capacity", capacity), whole("Replay", "seed", seed, 0)
        self._memory: Batch | None = None
        self._tasks = torch.zeros(0, dtype=torch.int64)
        self._generator = torch.Generator().manual_seed(seed)

    def settings(self) -> dict[str, object]:
        return {"capacity": self.capacity, "seed": self._seed}

    def mix(self, batch: Batch) -> Batch:
        """`batch`, and as many samples of old tasks."""
        if self._memory is None or not len(self._memory):
            return batch
        drawn = torch.randint(len(self._memory), (len(batch),), generator=self._generator)
        old = self._memory.taken(drawn)
        if old.allowed is not None and batch.allowed is not None and not bool((old.allowed & ~batch.allowed[0]).any()):
            # Class-incremental: an old sample, too, is told from the classes that came after it.
            old = replace(old, allowed=batch.allowed[:1].expand(len(old), -1))
        return batch.joined(_of_steps(old, len(batch.x)))

    def _end(self, batches: Iterable[Batch]) -> None:
        share = self.capacity // self.task
        if not share:
            raise InputError(f"Replay: capacity = {self.capacity} leaves no sample for each of {self.task} tasks")
        # Of a still image one step is enough.
        kept = None if self._memory is None else self._memory.taken(self._first(share))
        tasks = [self._tasks[self._first(share)]]
        left = share
        for batch in batches:
            if left <= 0:
                break
            count = min(left, len(batch))
            one = batch.taken(torch.arange(count))
            still = bool((one.x == one.x[:1]).all())
            one = Batch((one.x[:1] if still else one.x).clone(), one.y.clone(), one.allowed)
            kept = one if kept is None else _joined(kept, one)
            tasks.append(torch.full((count,), self.task))
            left -= count
        if left == share:
            raise InputError("Replay: end_task needs batches of the task's training data: end_task(batches)")
        self._memory, self._tasks = kept, torch.cat(tasks)

    def _first(self, count: int) -> Tensor:
        """Where the first `count` samples of each task lie."""
        places = [torch.nonzero(self._tasks == task).flatten()[:count] for task in range(1, self.task)]
        return torch.cat([torch.zeros(0, dtype=torch.int64), *places])

    def _state(self) -> dict[str, Tensor]:
        state = {"tasks": self._tasks, "generator": self._generator.get_state()}
        if self._memory is not None:
            state |= {"x": self._memory.x, "y": self._memory.y}
            state |= {} if self._memory.allowed is None else {"allowed": self._memory.allowed}
        return state

    def _load(self, state: dict[str, Tensor], task: int, learning: bool) -> None:
        self._tasks = state["tasks"].clone()
        self._generator.set_state(state["generator"])
        place = next(iter(self.net.parameters())).device
        moved = {name: state[name].to(place, copy=True) for name in ("x", "y", "allowed") if name in state}
        self._memory = Batch(moved["x"], moved["y"], moved.get("allowed")) if moved else None


def _joined(one: Batch, other: Batch) -> Batch:
    """Both, a still image among frames at every step of theirs."""
    steps = max(len(one.x), len(other.x))
    return _of_steps(one, steps).joined(_of_steps(other, steps))


def _of_steps(batch: Batch, steps: int) -> Batch:
    """A batch of still images as one of `steps` steps; one that has them as it is."""
    if len(batch.x) not in (1, steps):
        raise InputError(
            f"Replay: samples of {len(batch.x)} and of {steps} time steps cannot be in one batch; give all tasks one T"
        )
    return replace(batch, x=batch.x.expand(steps, *batch.x.shape[1:]))
