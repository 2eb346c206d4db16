"""Augmentation of a batch of still images [B, C, H, W], each image on its own, in torch alone.

All draw from torch's generator, which a Trainer seeds and restores, and keep shape and dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikekit.errors import InputError


@dataclass(frozen=True)
class RandomCrop:
    """Pad by `padding` black pixels on each side, then cut the old size out anywhere."""

    padding: int = 4

    def __post_init__(self) -> None:
        if not (isinstance(self.padding, int) and self.padding >= 0):
            raise InputError(f"RandomCrop: padding must be a whole number, 0 or more, got {self.padding!r}")

    def __call__(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        reach = self.padding
        rows = torch.randint(0, 2 * reach + 1, (batch, 1)) + torch.arange(height)
        columns = torch.randint(0, 2 * reach + 1, (batch, 1)) + torch.arange(width)
        padded = F.pad(images, (reach, reach, reach, reach))
        which, channel = torch.arange(batch).view(-1, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1)
        return padded[which, channel, rows.view(batch, 1, height, 1), columns.view(batch, 1, 1, width)]


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not (isinstance(self.p, int | float) and 0 <= self.p <= 1):
            raise InputError(f"RandomFlip: p must be between 0 and 1, got {self.p!r}")

    def __call__(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images)) < self.p
        return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


@dataclass(frozen=True)
class Cutout:
    """Paint over a square of `size` pixels with its centre anywhere in the image: DeVries and Taylor 2017.

    fill: the colour, one number a channel or one for all; the mean of the set leaves 0 once standardised.
    """

    size: int = 16
    fill: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and self.size > 0):
            raise InputError(f"Cutout: size must be a whole number above 0, got {self.size!r}")
        colour = self.fill if isinstance(self.fill, tuple | list) else (self.fill,)
        if not all(isinstance(value, int | float) for value in colour):
            raise InputError(f"Cutout: fill must be a number, or one a channel, got {self.fill!r}")

    def __call__(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        if isinstance(self.fill, tuple | list) and len(self.fill) not in (1, channels):
            raise InputError(f"Cutout: fill has {len(self.fill)} numbers, images have {channels} channels")

        def inside(length: int) -> Tensor:
            first = torch.randint(0, length, (batch, 1)) - self.size // 2
            place = torch.arange(length)
            return (place >= first) & (place < first + self.size)

        square = inside(height).view(batch, 1, height, 1) & inside(width).view(batch, 1, 1, width)
        colour = torch.as_tensor(self.fill, dtype=images.dtype).expand(channels).view(1, channels, 1, 1)
        return torch.where(square, colour, images)
