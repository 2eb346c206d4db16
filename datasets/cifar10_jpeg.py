"""CIFAR-10 (JPEG): the images of CIFAR-10 after a lossy compression, 50,000 + 10,000 of 32 x 32 pixels.

Krizhevsky 2009, "Learning multiple layers of features from tiny images"; compressed again at quality 75 by whoever
packed the archive. Accuracies on it are not those on CIFAR-10, so it keeps a name of its own.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final, Literal

import numpy as np
import torch

from spikekit.datasets.cache import Arrays, load_or_build
from spikekit.datasets.home import data_home
from spikekit.datasets.images import ImageSet
from spikekit.errors import InputError, require

_VERSION: Final = 1
_SPLITS: Final = ("train", "test")


class CIFAR10JPEG(ImageSet):
    """One split, "train" or "test", of CIFAR-10 (JPEG): an `ImageSet` of images [N, 3, 32, 32].

    root: the folder that holds `CIFAR10-jpeg/cifar10_jpeg.tar.xz`, with members {train,test}/<class>/<number>.jpg;
    None means `data_home()`. Images are decoded once, by Pillow (the extra "images"), and kept as `load_or_build`
    keeps them; cache: as there. They are in the order of class and number, so that the first images are no fair part.
    Raises InputError naming the file that is missing or damaged.
    """

    title: ClassVar[str] = "CIFAR-10 (JPEG)"
    folder: ClassVar[str] = "CIFAR10-jpeg"
    classes: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )

    def __init__(
        self,
        split: Literal["train", "test"],
        root: str | os.PathLike[str] | None = None,
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        if split not in _SPLITS:
            raise InputError(f"{self.title}: split must be 'train' or 'test', got {split!r}")
        archive = _archive(root)
        if not archive.is_file():
            raise InputError(
                f"{self.title}: {archive} is not there. Set SPIKEKIT_DATA (or root=) to the folder that holds "
                "CIFAR10-jpeg."
            )
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        key: dict[str, object] = {"dataset": self.title, "version": _VERSION, "split": split, "archive": digest}
        arrays = load_or_build("cifar10-jpeg", key, lambda: _decode(archive, split), cache)
        images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
        super().__init__(self.title, images, labels, (0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606))

    @classmethod
    def available(cls, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether the archive is there."""
        return _archive(root).is_file()


def _archive(root: str | os.PathLike[str] | None) -> Path:
    home = data_home() if root is None else Path(root).expanduser().absolute()
    return home / CIFAR10JPEG.folder / "cifar10_jpeg.tar.xz"


def _decode(archive: Path, split: str) -> Arrays:
    """Decode every image of a split, in the order of (class, name)."""
    pillow: Any = require("PIL.Image", "images")
    found: list[tuple[int, str, Any]] = []
    try:
        with tarfile.open(archive, "r:xz") as tar:
            # One pass and nothing unpacked to disk: no member can lead anywhere.
            for member in tar:
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or len(parts) != 3 or parts[0] != split or parts[1] not in CIFAR10JPEG.classes:
                    continue
                content = tar.extractfile(member)
                with pillow.open(io.BytesIO(content.read() if content else b"")) as image:
                    pixels = np.asarray(image.convert("RGB"))
                if pixels.shape != (32, 32, 3):
                    raise InputError(f"{archive}: {member.name} has the shape {pixels.shape}, expected (32, 32, 3)")
                found.append((CIFAR10JPEG.classes.index(parts[1]), parts[2], pixels.transpose(2, 0, 1)))
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise InputError(f"{archive} is damaged ({error}). Fetch it again.") from error
    if not found:
        raise InputError(f"{archive} holds no {split}/<class>/<number>.jpg: another archive")
    found.sort(key=lambda item: item[:2])
    return {
        "images": np.stack([pixels for _, _, pixels in found]),
        "labels": np.array([label for label, _, _ in found], dtype=np.int64),
    }
