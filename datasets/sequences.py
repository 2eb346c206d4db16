"""Images read pixel by pixel: sequential MNIST and its permuted form, the yardsticks of memory over 784 steps.

Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units", arXiv 1504.00941, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from spikekit.datasets.images import ImageSet
from spikekit.errors import InputError


class SequentialImages:
    """The images of a set as sequences of pixels, one a step, row by row or in one fixed random order.

    `batches` yields (x, y): x float32 [T, B, C] in [0, 1] with T = H·W, y int64 [B]; `tokens` gives the grey levels of
    images as whole numbers instead. permuted: the order is that of `seed`, the same for every image and split
    (psMNIST); else row by row (sMNIST).
    """

    def __init__(self, source: ImageSet, *, permuted: bool = False, seed: int = 0) -> None:
        pixels = source.images.shape[2] * source.images.shape[3]
        self.source = source
        self.order = torch.arange(pixels)
        if permuted:
            self.order = torch.from_numpy(np.random.default_rng(seed).permutation(pixels))
        self.name = f"{'permuted ' if permuted else ''}sequential {source.name}"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.source)

    @property
    def labels(self) -> Tensor:
        """The classes, int64 [N]."""
        return self.source.labels

    def pixels(self, indices: Tensor) -> Tensor:
        """The pixels of images `indices` [B] in the order they are read, uint8 [T, B, C]."""
        return self.source.images[indices].flatten(2)[:, :, self.order].permute(2, 0, 1)

    def tokens(self, indices: Tensor, levels: int = 16) -> Tensor:
        """The grey levels of images `indices` [B], from 0 to levels - 1, int64 [T, B]; images of one channel."""
        if self.source.images.shape[1] != 1:
            raise InputError(
                f"{self.name}: tokens need images of one channel, these have {self.source.images.shape[1]}"
            )
        if not 2 <= levels <= 256:
            raise InputError(f"{self.name}: levels must be between 2 and 256, got {levels}")
        return self.pixels(indices)[:, :, 0].long() * levels // 256

    def batches(self, size: int, *, shuffle: bool = False, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, `size` at a time: x float32 [T, B, C] and y int64 [B]."""
        count = len(self)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)) if shuffle else torch.arange(count)
        for indices in order.split(size):
            yield self.pixels(indices).float() / 255, self.labels[indices]
