"""Labelled still images in memory, and an honest part of the training set to choose settings on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikekit.errors import InputError


class ImageSet:
    """Images uint8 [N, C, H, W] and labels int64 [N], with what standardises them.

    name: as a figure's caption should say it. mean, std: one a channel, of pixels in [0, 1], over the training set.
    """

    def __init__(self, name: str, images: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(f"{name}: images must be uint8 [N, C, H, W], got {images.dtype} {tuple(images.shape)}")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise InputError(
                f"{name}: labels must be int64 [N] with N = {len(images)}, got {labels.dtype} {tuple(labels.shape)}"
            )
        channels = images.shape[1]
        if len(mean) != channels or len(std) != channels or not min(std) > 0:
            raise InputError(f"{name}: mean and std need {channels} numbers each, std above 0; got {mean} and {std}")
        self.name, self.images, self.labels = name, images, labels
        self.mean, self.std = tuple(mean), tuple(std)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {len(self)} images {tuple(self.images.shape[1:])})"

    def subset(self, indices: npt.ArrayLike | Tensor) -> ImageSet:
        """The images `indices`, in that order."""
        chosen = torch.as_tensor(np.asarray(indices))
        return ImageSet(self.name, self.images[chosen], self.labels[chosen], self.mean, self.std)


def holdout(labels: npt.ArrayLike, count: int, *, seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Hold `count` of a training set's samples out: (indices that stay, indices held out), int64, sorted.

    labels: integers [N]. Each class gives its share. The parts depend on labels, count and seed alone: settings and
    epochs are chosen on the part held out, the test set is looked at once. Raises InputError unless 0 < count < N.
    """
    classes = np.asarray(labels)
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or not classes.size:
        raise InputError(f"holdout: labels must be integers [N], got {classes.dtype} {list(classes.shape)}")
    if not isinstance(count, int) or not 0 < count < len(classes):
        raise InputError(f"holdout: count must be a whole number between 0 and N = {len(classes)}, got {count!r}")
    values, sizes = np.unique(classes, return_counts=True)
    exact = count * sizes / len(classes)
    shares = np.floor(exact).astype(np.int64)
    # What rounding down leaves goes to the classes that lost most of it.
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    random = np.random.default_rng(seed)
    held = [random.permutation(np.flatnonzero(classes == c))[:n] for c, n in zip(values, shares, strict=True)]
    out = np.sort(np.concatenate(held)).astype(np.int64)
    return np.setdiff1d(np.arange(len(classes)), out), out
