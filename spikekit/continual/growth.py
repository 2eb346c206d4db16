"""How many lateral units a layer is given for a task: by a schedule, or until they explain enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spikekit.continual.numbers import whole
from spikekit.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """A number of new units a layer and task.

    first: for the first task, one number a layer in the order of the network, or one for all. later: for each task
    after it; the last counts for all that follow. Each entry a number for all layers, or one a layer.
    """

    first: int | Sequence[int]
    later: Sequence[int | Sequence[int]] = (0,)

    def __post_init__(self) -> None:
        if not self.later:
            raise InputError("Schedule: later is empty; give (0,) for no units after the first task")
        for entry in (self.first, *self.later):
            for count in [entry] if isinstance(entry, int) else entry:
                if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                    raise InputError(f"Schedule: units are whole numbers, 0 or more, got {entry!r}")

    def check(self, layers: Sequence[str]) -> None:
        """Raise InputError when the numbers of any task do not fit the layers."""
        for task in range(1, len(self.later) + 2):
            self.units(task, layers)

    def units(self, task: int, layers: Sequence[str]) -> dict[str, int]:
        """New units of each layer for `task`, from 1. Raises InputError when the numbers do not fit the layers."""
        entry = self.first if task == 1 else self.later[min(task - 2, len(self.later) - 1)]
        counts = [entry] * len(layers) if isinstance(entry, int) else list(entry)
        if len(counts) != len(layers):
            raise InputError(f"Schedule: {counts} for task {task} are not one a layer; the layers are {list(layers)}")
        return dict(zip(layers, counts, strict=True))


@dataclass(frozen=True)
class ByVariance:
    """Units are added while a task is learned, until they explain the part `explained` of the inputs' power.

    The power is that of the second moment, mean |x|², as the lateral rule has it. The first task starts with
    `step` units a layer, later ones with what there is. Every `patience` batches a layer that explains less gets `step`
    more, up to the part `most` of its width in all.
    """

    explained: float = 0.95
    step: int = 20
    patience: int = 30
    most: float = 0.7

    def __post_init__(self) -> None:
        for name in ("explained", "most"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 < value < 1):
                raise InputError(f"ByVariance: {name} must be between 0 and 1, got {value!r}")
        for name in ("step", "patience"):
            value = getattr(self, name)
            whole("ByVariance", name, value)


Growth = Schedule | ByVariance

PRESETS: Mapping[str, Schedule] = {
    # 784-800-800-10, ten tasks.
    "pmnist": Schedule((80, 200, 100), (70, 70, 50, 50, 50, 30, 30, 30, 10)),
    # Three convolutions and a classifier outside, ten tasks.
    "cifar100": Schedule((6, 100, 200), ((2, 20, 40),)),
}
"""The authors' schedules, by protocol."""


def checked_growth(units: Growth | str | int | Sequence[int]) -> Growth:
    """What `HLOP(units=...)` was given, as a schedule or a rule."""
    if not isinstance(units, (Schedule, ByVariance, int, Sequence)):
        raise InputError(
            f"HLOP: units must be a number, one a layer, a Schedule, a ByVariance or a preset's name, got {units!r}"
        )
    if isinstance(units, (Schedule, ByVariance)):
        return units
    if isinstance(units, str):
        if units not in PRESETS:
            raise InputError(f"HLOP: no preset {units!r}; there are {sorted(PRESETS)}")
        return PRESETS[units]
    return Schedule(units, (units,))
