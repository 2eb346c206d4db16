"""MNIST and Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 pixels in ten classes, in the IDX format.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 86, 1998.
Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv 1708.07747, 2017.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from spikekit.datasets.home import data_home
from spikekit.datasets.images import ImageSet
from spikekit.errors import InputError

_PREFIX: Final = {"train": "train", "test": "t10k"}


class _IDX(ImageSet):
    """A set of four gzipped IDX files in `<folder>/raw`; see `MNIST`."""

    title: ClassVar[str]
    folder: ClassVar[str]
    statistics: ClassVar[tuple[float, float]]

    def __init__(self, split: Literal["train", "test"], root: str | os.PathLike[str] | None = None) -> None:
        if split not in tuple(_PREFIX):
            raise InputError(f"{self.title}: split must be 'train' or 'test', got {split!r}")
        images_file, labels_file = self._files(split, root)
        images, labels = _read(images_file, 3, self.title), _read(labels_file, 1, self.title)
        if len(images) != len(labels):
            raise InputError(
                f"{images_file} holds {len(images)} images, {labels_file.name} {len(labels)} labels. Fetch both again."
            )
        if not len(images) or images.shape[1:] != (28, 28) or labels.max() > 9:
            raise InputError(
                f"{images_file.parent}: expected images of 28 x 28 pixels with labels 0 to 9, found "
                f"{list(images.shape)} with labels to {labels.max(initial=0)}: another data set. "
                f"Fetch the four files of {self.title} again."
            )
        mean, std = self.statistics
        pixels, classes = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
        super().__init__(self.title, pixels, classes, (mean,), (std,))

    @classmethod
    def available(cls, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether all four files are there."""
        return all(file.is_file() for split in _PREFIX for file in cls._files(split, root))

    @classmethod
    def _files(cls, split: str, root: str | os.PathLike[str] | None) -> tuple[Path, Path]:
        home = data_home() if root is None else Path(root).expanduser().absolute()
        raw = home / cls.folder / "raw"
        return raw / f"{_PREFIX[split]}-images-idx3-ubyte.gz", raw / f"{_PREFIX[split]}-labels-idx1-ubyte.gz"


class MNIST(_IDX):
    """Handwritten digits of one split, "train" or "test": an `ImageSet` of images [N, 1, 28, 28].

    root: the folder that holds `MNIST/raw/*.gz`; None means `data_home()`. Raises InputError naming the file that is
    missing, damaged or of another set.
    """

    title = "MNIST"
    folder = "MNIST"
    statistics = (0.1307, 0.3081)


class FashionMNIST(_IDX):
    """Pictures of clothes of one split, "train" or "test": an `ImageSet` of images [N, 1, 28, 28].

    root: the folder that holds `FashionMNIST/raw/*.gz`; None means `data_home()`. Raises InputError as `MNIST`.
    """

    title = "Fashion-MNIST"
    folder = "FashionMNIST"
    statistics = (0.2860, 0.3530)


def _read(path: Path, axes: int, title: str) -> npt.NDArray[np.uint8]:
    """The bytes [N, ...] of one file: two zero bytes, type 8, the number of axes, big-endian sizes, then data."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise InputError(
            f"{title}: {path} is not there. Set SPIKEKIT_DATA (or root=) to the folder that holds "
            f"{path.parent.parent.name}/raw with the four .gz files of the set."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is no sound gzip file ({error}). Fetch it again.") from error
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes((0, 0, 8, axes)):
        raise InputError(f"{path} does not hold bytes with {axes} axes in the IDX format. Fetch it again.")
    # Python's integers, because a damaged head may say more than 64 bits hold.
    sizes = np.frombuffer(content, ">u4", axes, 4).tolist()
    if len(content) - start != math.prod(sizes):
        raise InputError(f"{path} holds {len(content) - start} values, its head says {sizes}. Fetch it again.")
    # A copy: what a tensor shares must be writable.
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy()
