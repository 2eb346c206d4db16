"""Recordings turned into frames once, kept on disk, and served as time-first batches.

Making frames of every recording in every epoch costs more than a small network's training. Here they are
made once, held as bytes (a spike is 0 or 1, a count rarely passes 255) and become float32 only in the
batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from spikekit.datasets.cache import Arrays, load_or_build
from spikekit.datasets.source import EventSource
from spikekit.errors import EventError, InputError
from spikekit.events import collate_time_first, frames_by_count, frames_by_time

_VERSION: Final = 1
_BINNINGS: Final = {"time": frames_by_time, "count": frames_by_count}


Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Transformed:
    """A collate function that changes the frames first; a class, so that loader processes can pickle it."""

    transform: Transform

    def __call__(self, samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return collate_time_first([(self.transform(frames), label) for frames, label in samples])


class FrameDataset(Dataset[tuple[Tensor, int]]):
    """Frames of all recordings of `source`: `dataset[i] -> (float32 [T, 2, H, W], label)`.

    by="time": T = n_bins equal stretches of each recording's own span; by="count": equal numbers of events.
    binary=True: 1 where anything happened; binary=False: counts, EventError for one above 255 (more bins, or
    binary=True, is the way out). `frames` holds uint8 [N, T, 2, H, W], `labels` int64 [N].

    cache=True keeps the frames under `cache_home()`, keyed by the source's fingerprint and the settings
    here; a folder puts them there, and must be writable; False builds them each time.
    """

    frames: Tensor
    labels: Tensor

    def __init__(
        self,
        source: EventSource,
        n_bins: int = 10,
        binary: bool = True,
        by: Literal["time", "count"] = "time",
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        if by not in _BINNINGS:
            raise InputError(f"FrameDataset: by must be 'time' or 'count', got {by!r}.")
        if not isinstance(n_bins, int) or n_bins < 1:
            raise InputError(f"FrameDataset: n_bins must be a whole number, 1 or more; got {n_bins!r}.")
        if not len(source):
            raise InputError(f"FrameDataset: {source.name} has no recordings. Check its split and its folder.")
        self.name = source.name
        key: dict[str, object] = {"dataset": source.name, "version": _VERSION}
        key |= {"n_bins": n_bins, "binary": bool(binary), "by": by}
        if cache is not False:
            key["source"] = source.fingerprint()
        arrays = load_or_build("frames", key, lambda: _build(source, n_bins, binary, by), cache)
        self.frames = torch.from_numpy(arrays["frames"])
        self.labels = torch.from_numpy(arrays["labels"])

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return recording `index` -> (frames float32 [T, 2, H, W], label)."""
        return self.frames[index].to(torch.float32), int(self.labels[index])

    def loader(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | None = None,
        indices: npt.ArrayLike | None = None,
    ) -> DataLoader[tuple[Tensor, int]]:
        """Batches x float32 [T, B, 2, H, W], y int64 [B]; `seed` alone decides the order of every epoch.

        transform: applied to the frames [T, 2, H, W] of each recording, such as `spikekit.events.RandomShift`.
        indices: of the recordings to take, all of them without.
        """
        part = self if indices is None else Subset(self, np.asarray(indices).tolist())
        if drop_last and batch_size > len(part):
            raise InputError(
                f"{self.name}: drop_last with batch_size {batch_size} leaves no batch of {len(part)} "
                "recordings. Use a smaller batch or drop_last=False."
            )
        return DataLoader(
            part,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            collate_fn=collate_time_first if transform is None else _Transformed(transform),
            generator=torch.Generator().manual_seed(seed),
        )


def _build(source: EventSource, n_bins: int, binary: bool, by: str) -> Arrays:
    width, height = source.sensor
    frames = np.zeros((len(source), n_bins, 2, height, width), dtype=np.uint8)
    labels = np.zeros(len(source), dtype=np.int64)
    for i in range(len(source)):
        stream, labels[i] = source[i]
        if stream.sensor != source.sensor:
            raise EventError(f"{stream.source}: sensor {stream.sensor}, but {source.name} has {source.sensor}.")
        made = _BINNINGS[by](stream, n_bins, binary=binary)
        if made.max() > 255:
            raise EventError(
                f"{stream.source or f'recording {i}'}: {made.max()} events in one pixel of one frame do "
                f"not fit a byte. Use more than {n_bins} bins, or binary=True."
            )
        frames[i] = made
    return {"frames": frames, "labels": labels}
