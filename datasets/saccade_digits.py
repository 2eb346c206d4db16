"""Saccade-Digits: an event set that needs no download, made of real digits and a simulated camera.

The pictures are scikit-learn's 1,797 handwritten digits (E. Alpaydin, C. Kaynak, UCI, 1998; 8 x 8 pixels);
the events are synthetic, from `saccade_camera`. It is for examples, tests and first trials; a result on it
is not a result on N-MNIST.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from spikekit.datasets.cache import Arrays, load_or_build
from spikekit.datasets.source import Split, checked_index, checked_split
from spikekit.errors import EventError, InputError, require
from spikekit.events import EventStream

from . import saccade_camera

_VERSION: Final = 1
_TEST_PER_CLASS: Final = 36


class SaccadeDigits:
    """Recordings of one split: `dataset[i] -> (EventStream, label)`; 300 ms, 34 x 34, p = 1 is brighter.

    seed: of the camera's noise and its uneven thresholds. The split is the same for every seed: test is the
    last 36 of each class (360), train the rest (1,437), "all" is train, then test. The source lists its
    writers one after another, so that test digits are mostly by hands that train has not seen.

    cache: as in `load_or_build`. The events of a seed are the same on every machine.
    """

    name = "Saccade-Digits (synthetic)"
    sensor = saccade_camera.SENSOR

    def __init__(self, split: Split, seed: int = 0, cache: bool | str | os.PathLike[str] = True) -> None:
        self.split = checked_split(split)
        if not isinstance(seed, int) or seed < 0:
            raise InputError(f"SaccadeDigits: seed must be a whole number, 0 or more; got {seed!r}.")
        self.seed = seed
        key = {"dataset": self.name, "version": _VERSION, "split": split, "seed": seed}
        self._arrays = load_or_build("saccade-digits", key, lambda: _simulate(self.split, seed), cache)
        for array in self._arrays.values():
            array.flags.writeable = False

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The digit of each recording, int64 [N]."""
        return self._arrays["labels"]

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.labels)

    def __repr__(self) -> str:
        return f"SaccadeDigits({self.split!r}, seed={self.seed}, {len(self)} synthetic recordings)"

    def __getitem__(self, index: int) -> tuple[EventStream, int]:
        """Return recording `index` -> (EventStream, digit)."""
        i = checked_index(index, len(self))
        start, stop = self._arrays["offsets"][i : i + 2]
        t, x, y, p = (self._arrays[name][start:stop] for name in "txyp")
        source = f"{self.name} {self.split}[{i}]"
        return EventStream.checked(t, x, y, p, self.sensor, source=source), int(self.labels[i])

    def fingerprint(self) -> str:
        """Hash of every event and label."""
        digest = hashlib.sha256(_names(self._arrays))
        for name in sorted(self._arrays):
            digest.update(self._arrays[name].tobytes())
        return digest.hexdigest()


def _names(arrays: Arrays) -> bytes:
    return ",".join(f"{name}:{arrays[name].dtype.str}:{arrays[name].shape}" for name in sorted(arrays)).encode()


def _simulate(split: Split, seed: int) -> Arrays:
    """Record the pictures of a split; a picture's number in the source names its noise."""
    digits: Any = require("sklearn.datasets", "events").load_digits()
    labels = np.asarray(digits.target, dtype=np.int64)
    numbers = split_numbers(labels)[split]
    pictures = np.rint(digits.images[numbers]).astype(np.int64)
    if pictures.shape[1:] != (saccade_camera.PICTURE,) * 2 or pictures.min() < 0 or pictures.max() > 16:
        raise EventError(
            f"scikit-learn's digits changed: found {list(pictures.shape)}, "
            f"values {pictures.min()}..{pictures.max()}; expected 8x8 pictures of 0..16. "
            "Install another scikit-learn and report this."
        )
    return saccade_camera.record(pictures, numbers, seed) | {"labels": labels[numbers]}


def split_numbers(labels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
    """Positions in the source of each split, in the source's order: test is the last 36 of each class."""
    test = np.sort(np.concatenate([np.flatnonzero(labels == c)[-_TEST_PER_CLASS:] for c in np.unique(labels)]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return {"train": train, "test": test, "all": np.concatenate([train, test])}
