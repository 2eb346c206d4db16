"""Still images as sequences: the same picture at each of T steps, so that the first layer's neurons encode it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spikekit.datasets.images import ImageSet
from spikekit.errors import InputError


class RepeatedImages(Dataset[tuple[Tensor, int]]):
    """Direct coding of an `ImageSet`: `dataset[i] -> (float32 [T, C, H, W], label)`, standardised.

    steps: T. The steps of a sample share their memory; Rueckauer et al. 2017 and Wu et al. 2019 feed images so.
    """

    def __init__(self, source: ImageSet, steps: int = 4) -> None:
        if not isinstance(steps, int) or steps < 1:
            raise InputError(f"RepeatedImages: steps must be a whole number, 1 or more, got {steps!r}")
        if not len(source):
            raise InputError(f"RepeatedImages: {source.name} has no images; check its split and subset")
        self.source, self.steps = source, steps

    @property
    def name(self) -> str:
        """The name of the image set."""
        return self.source.name

    @property
    def labels(self) -> Tensor:
        """The class of each image, int64 [N]."""
        return self.source.labels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return image `index` -> (float32 [T, C, H, W], label)."""
        frames = _Prepare(self.source, self.steps, None)(self.source.images[index][None])
        return frames[:, 0], int(self.source.labels[index])

    def loader(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        transform: Callable[[Tensor], Tensor] | None = None,
        indices: npt.ArrayLike | None = None,
    ) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches x float32 [T, B, C, H, W], y int64 [B]; `seed` alone decides the order of every epoch.

        transform: applied to a batch of pictures [B, C, H, W] in [0, 1], such as `RandomCrop`, before they are
        standardised and repeated. indices: of the images to take, all of them without.
        """
        part = self.source if indices is None else self.source.subset(indices)
        if drop_last and batch_size > len(part):
            raise InputError(
                f"{self.name}: drop_last with batch_size {batch_size} leaves no batch of {len(part)} images. "
                "Use a smaller batch or drop_last=False."
            )
        return DataLoader(
            _Pictures(part),
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            collate_fn=_Collate(_Prepare(self.source, self.steps, transform)),
            generator=torch.Generator().manual_seed(seed),
        )


class _Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Gives a whole batch at once: a picture at a time costs more in Python than a small network's step."""

    def __init__(self, source: ImageSet) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.source.images[index], self.source.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.source.images[chosen], self.source.labels[chosen]


class _Prepare:
    """Bytes [B, C, H, W] to float32 [T, B, C, H, W]: in [0, 1], transformed, standardised, repeated."""

    def __init__(self, source: ImageSet, steps: int, transform: Callable[[Tensor], Tensor] | None) -> None:
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (source.mean, source.std))
        self.steps, self.transform = steps, transform

    def __call__(self, images: Tensor) -> Tensor:
        x = images.to(torch.float32) / 255
        if self.transform is not None:
            x = self.transform(x)
        x = (x - self.mean) / self.std
        return x.expand(self.steps, *x.shape)


@dataclass(frozen=True)
class _Collate:
    """Prepares what `__getitems__` gave; a class, so that loader processes can pickle it."""

    prepare: _Prepare

    def __call__(self, batch: Any) -> tuple[Tensor, Tensor]:
        images, labels = batch
        return self.prepare(images), labels
