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
import warnings
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
_FIX: Final = "Fetch the archive again."


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
    found: dict[tuple[int, str], Any] = {}
    try:
        with tarfile.open(archive, "r:xz") as tar:
            # One pass and nothing unpacked to disk: no member can lead anywhere.
            for member in tar:
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or len(parts) != 3 or parts[0] != split:
                    continue
                if parts[1] not in CIFAR10JPEG.classes:
                    raise InputError(f"{archive}: {member.name} is of no class of CIFAR-10: another archive. {_FIX}")
                key = (CIFAR10JPEG.classes.index(parts[1]), parts[2])
                if key in found:
                    raise InputError(f"{archive}: {member.name} is there twice. {_FIX}")
                content = tar.extractfile(member)
                found[key] = _pixels(pillow, content.read() if content else b"", f"{archive}: {member.name}")
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise InputError(f"{archive} is damaged ({error}). {_FIX}") from error
    if not found:
        raise InputError(f"{archive} holds no {split}/<class>/<number>.jpg: another archive. {_FIX}")
    order = sorted(found)
    return {
        "images": np.stack([found[key] for key in order]),
        "labels": np.array([label for label, _ in order], dtype=np.int64),
    }


def _pixels(pillow: Any, content: bytes, where: str) -> Any:
    """One picture, uint8 [3, 32, 32]."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of a picture too large to be one of ours.
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            with pillow.open(io.BytesIO(content)) as image:
                # Before it is decoded: a damaged head may say any size.
                if image.size != (32, 32):
                    width, height = image.size
                    raise InputError(f"{where} has {width} x {height} pixels, expected 32 x 32. {_FIX}")
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} is no sound picture ({error}). {_FIX}") from error
