"""N-MNIST mosaic: real recordings of digits side by side on a larger canvas, each with its box; for detection.

Events are N-MNIST's own (Orchard et al. 2015, CC BY-SA 4.0): each is moved by whole pixels, none is added, scaled or
taken away. All recordings of a scene start together, as their saccades do. Training scenes hold training recordings
alone, test scenes test recordings; every tenth training recording is kept apart for validation scenes.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from spikekit.datasets.box_dataset import BoxDataset
from spikekit.datasets.cache import Arrays, load_or_build
from spikekit.datasets.nmnist import NMNIST
from spikekit.datasets.source import EventSource
from spikekit.errors import EventError, InputError
from spikekit.events import EventStream, frames_by_time

_VERSION: Final = 3
_SPLITS: Final = ("train", "val", "test")
COUNTS: Final = {"train": 1000, "val": 200, "test": 200}
"""Scenes of each split, unless another number is asked for."""
_TRIES: Final = 100
# Noise fires once here and there, or one hot pixel many times; the digit fires again and again in neighbouring pixels.
_AGAIN: Final = 2
_NEIGHBOURS: Final = 6


@dataclass(frozen=True)
class Scenes:
    """How scenes are made. side: of the square canvas in pixels. objects: from 1 to so many digits a scene.

    overlap: largest intersection over union of two boxes. seed: of everything drawn; scene i is the same whatever
    number of scenes is made.
    """

    side: int = 128
    objects: int = 6
    overlap: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side < 34 or self.objects < 1 or not 0 <= self.overlap <= 1 or self.seed < 0:
            raise InputError(
                f"Scenes: side must be 34 or more, objects 1 or more, overlap within 0 and 1, seed from 0; got {self}"
            )


class NMNISTMosaic(BoxDataset):
    """One split, "train", "val" or "test": a `BoxDataset` of binary frames [steps, 2, side, side], of ten digits.

    root: as in `NMNIST`. count: number of scenes; see `COUNTS`. steps: frames a scene. A box is the smallest
    around the pixels of its digit: those that fired twice or more, with 6 such among the 3 × 3 around. Built on first
    use and kept; cache: see `load_or_build`. Raises InputError for an unknown split, and for a count or steps below 1.
    """

    title = "N-MNIST mosaic"
    kinds = tuple(str(digit) for digit in range(10))

    def __init__(
        self,
        split: str,
        root: str | os.PathLike[str] | None = None,
        count: int | None = None,
        steps: int = 4,
        scenes: Scenes | None = None,
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        if split not in _SPLITS:
            raise InputError(f"{self.title}: split must be one of {_SPLITS}, got {split!r}")
        scenes = Scenes() if scenes is None else scenes
        count = COUNTS[split] if count is None else count
        for name, value in (("count", count), ("steps", steps)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{self.title}: {name} must be a whole number, 1 or more, got {value!r}")
        source = NMNIST("test" if split == "test" else "train", root)
        key: dict[str, object] = {"dataset": self.title, "version": _VERSION, "split": split, "count": count}
        key |= {"steps": steps, "scenes": asdict(scenes), "source": source.fingerprint() if cache is not False else ""}
        arrays = load_or_build("nmnist-mosaic", key, lambda: _build(source, split, count, steps, scenes), cache)
        side = scenes.side
        # A bit a pixel: a thousand scenes are 16 MB.
        frames = np.unpackbits(arrays["bits"], axis=1, count=steps * 2 * side * side)
        shape = (count, steps, 2, side, side)
        sets = torch.split(torch.from_numpy(arrays["boxes"]), arrays["counts"].tolist())
        super().__init__(f"{self.title} {split}", self.kinds, torch.from_numpy(frames.reshape(shape)), sets)


def scene(
    source: EventSource, draw: np.random.Generator, scenes: Scenes
) -> tuple[EventStream, npt.NDArray[np.float32]]:
    """One scene of recordings of `source`: all its events in order of time, and boxes [n, 5]."""
    side, (width, height) = scenes.side, source.sensor
    parts: list[EventStream] = []
    boxes: list[list[float]] = []
    for _ in range(int(draw.integers(1, scenes.objects + 1))):
        stream, label = source[int(draw.integers(len(source)))]
        x0, y0, x1, y1 = digit_box(stream)
        for _ in range(_TRIES):
            right, down = (int(v) for v in draw.integers(0, (side - width + 1, side - height + 1)))
            box = [float(label), x0 + right, y0 + down, x1 + right, y1 + down]
            if all(_overlap(box, other) <= scenes.overlap for other in boxes):
                boxes.append(box)
                parts.append(EventStream(stream.t, stream.x + right, stream.y + down, stream.p, (side, side)))
                break
    t, x, y, p = (np.concatenate([getattr(part, name) for part in parts]) for name in "txyp")
    return EventStream.sort(t, x, y, p, (side, side), source=NMNISTMosaic.title), np.array(boxes, dtype=np.float32)


def _build(source: NMNIST, split: str, count: int, steps: int, scenes: Scenes) -> Arrays:
    every = np.arange(len(source))
    parts = {"train": every[every % 10 != 9], "val": every[every % 10 == 9], "test": every}
    if not len(parts[split]):
        raise InputError(f"{NMNISTMosaic.title}: {len(source)} recordings leave none for {split!r}; 10 are needed")
    held = _Held(source, parts[split])
    bits, boxes = [], []
    for number in range(count):
        draw = np.random.default_rng([scenes.seed, _SPLITS.index(split), number])
        stream, found = scene(held, draw, scenes)
        bits.append(np.packbits(frames_by_time(stream, steps, binary=True).reshape(-1)))
        boxes.append(found)
    counts = np.array([len(found) for found in boxes], dtype=np.int64)
    return {"bits": np.stack(bits), "boxes": np.concatenate(boxes), "counts": counts}


class _Held:
    """Some recordings of a source, each read once."""

    def __init__(self, source: EventSource, indices: npt.NDArray[np.int64]) -> None:
        self.name, self.sensor, self.labels = source.name, source.sensor, source.labels[indices]
        self._source, self._indices = source, indices
        self._read: dict[int, tuple[EventStream, int]] = {}

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[EventStream, int]:
        if index not in self._read:
            self._read[index] = self._source[int(self._indices[index])]
        return self._read[index]

    def fingerprint(self) -> str:
        return self._source.fingerprint()


def digit_box(stream: EventStream) -> tuple[int, int, int, int]:
    """The box (x0, y0, x1, y1) of what moved in a recording, without the noise around it."""
    width, height = stream.sensor
    counts = np.bincount(stream.y * width + stream.x, minlength=width * height).reshape(height, width)
    busy = np.pad((counts >= _AGAIN).astype(np.int64), 1)
    around = sum(busy[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3))
    inside = (counts >= _AGAIN) & (around >= _NEIGHBOURS)
    if not inside.any():
        raise EventError(f"{stream.source}: nothing in it fires again and again; it has no digit to draw a box around.")
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _overlap(a: list[float], b: list[float]) -> float:
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (1, 2))
    if w <= 0 or h <= 0:
        return 0.0
    areas = [(box[3] - box[1]) * (box[4] - box[2]) for box in (a, b)]
    return w * h / (sum(areas) - w * h)
