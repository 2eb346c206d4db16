"""Learning-rate schedules, stepped once an optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from spikekit.errors import InputError

Schedule = Callable[[Optimizer, int], LRScheduler]


def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Half a cosine from the full learning rate to zero over `total_steps`."""

    def factor(step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(step, total_steps) / total_steps))

    return LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class WarmCosine:
    """A straight rise to the full learning rate over the first part `warmup` of all steps, then a cosine to zero."""

    warmup: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise InputError(f"WarmCosine: warmup is a part of all steps, 0 or more and below 1; got {self.warmup}")

    def __call__(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        rise = self.warmup * total_steps

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            return 0.5 * (1 + math.cos(math.pi * min((step - rise) / (total_steps - rise), 1)))

        return LambdaLR(optimizer, factor)


def make_schedule(schedule: str | Schedule | None, optimizer: Optimizer, total_steps: int | None) -> LRScheduler | None:
    """The scheduler of `Trainer(schedule=...)` for `total_steps`, None when their number is not known."""
    if schedule is None:
        return None
    if total_steps is None:
        raise InputError("Trainer: a schedule needs a train_loader with a length; pass schedule=None for this one")
    if schedule == "cosine":
        return cosine(optimizer, total_steps)
    if not callable(schedule):
        raise InputError(
            "Trainer: schedule must be 'cosine', None or a callable (optimizer, total_steps) -> LRScheduler, "
            f"got {schedule!r}"
        )
    return schedule(optimizer, total_steps)
