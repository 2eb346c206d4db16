"""What every dataset of recordings offers, and so what `FrameDataset` accepts."""

from __future__ import annotations

import operator
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from spikekit.errors import InputError
from spikekit.events import EventStream

Split = Literal["train", "test", "all"]


class EventSource(Protocol):
    """Labelled recordings of one sensor, in an order that never changes.

    name: as a figure's caption should say it. labels: int64 [N]. sensor: (width, height). `fingerprint()`
    is a text that changes whenever any recording would; caches rely on it.
    """

    name: str
    sensor: tuple[int, int]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the class of each recording, int64 [N]."""

    def __len__(self) -> int:
        """Return the number of recordings."""

    def __getitem__(self, index: int) -> tuple[EventStream, int]:
        """Return recording `index` and its label."""

    def fingerprint(self) -> str:
        """Return a text that is the same only for the same recordings in the same order."""


def checked_split(split: str) -> Split:
    """Return `split`, or raise InputError with the names that exist."""
    if split not in get_args(Split):
        raise InputError(f"split must be one of {', '.join(get_args(Split))}; got {split!r}.")
    return split  # type: ignore[return-value]


def checked_index(index: int, n: int) -> int:
    """Return the position 0..n-1 of an index that may be negative, or raise IndexError as a list does."""
    i = operator.index(index)
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of range for {n} recordings.")
    return i % n
