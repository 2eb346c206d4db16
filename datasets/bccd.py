"""BCCD: photographs of blood under a microscope, 364 of 640 x 480 pixels, boxes around three kinds of cells.

Shenggan, github.com/Shenggan/BCCD_Dataset, 2017, MIT licence. Official split: 205 train, 87 val, 72 test.
"""

from __future__ import annotations

import hashlib
import logging
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from spikekit.datasets.box_dataset import BoxDataset, Letterbox
from spikekit.datasets.cache import Arrays, load_or_build
from spikekit.datasets.home import data_home
from spikekit.errors import InputError, require

_VERSION: Final = 1
SPLITS: Final = ("train", "val", "trainval", "test")
_log = logging.getLogger(__name__)


class BCCD(BoxDataset):
    """One split, "train", "val", "trainval" or "test": a `BoxDataset` of images [1, 3, height, width].

    root: the folder that holds `BCCD/{Annotations,ImageSets,JPEGImages}`; None means `data_home()`. size: (width,
    height) that the images are scaled down to, as large as fits, the rest black; multiples of 32 for a detector. steps:
    how often an image is shown. Boxes without area, of which the published files have two, are left out and named in
    the log; `dropped` says how many. Decoded once by Pillow (the extra "images") and kept; cache: see `load_or_build`.
    """

    title = "BCCD"
    kinds = ("RBC", "WBC", "Platelets")

    def __init__(
        self,
        split: str,
        root: str | os.PathLike[str] | None = None,
        size: tuple[int, int] = (320, 256),
        steps: int = 4,
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        if split not in SPLITS:
            raise InputError(f"{self.title}: split must be one of {SPLITS}, got {split!r}")
        home = _home(root)
        names = _names(home, split)
        digest = hashlib.sha256()
        for name in names:
            for file in (_image(home, name), _annotation(home, name)):
                digest.update(file.read_bytes())
        key: dict[str, object] = {"dataset": self.title, "version": _VERSION, "split": split, "size": list(size)}
        arrays = load_or_build("bccd", key | {"files": digest.hexdigest()}, lambda: _decode(home, names, size), cache)
        self.dropped = int(arrays["dropped"])
        if self.dropped:
            _log.warning("%s %s: %d boxes without area were left out.", self.title, split, self.dropped)
        frames, boxes = torch.from_numpy(arrays["frames"]), torch.from_numpy(arrays["boxes"])
        sets = torch.split(boxes, arrays["counts"].tolist())
        super().__init__(f"{self.title} {split}", self.kinds, frames, sets, steps, scale=255.0)

    @classmethod
    def available(cls, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether the lists of the split are there."""
        return (_home(root) / "ImageSets" / "Main" / "train.txt").is_file()


def read_voc(path: Path, classes: tuple[str, ...]) -> tuple[Tensor, list[str]]:
    """The boxes float32 [n, 5] of a Pascal VOC file, and a line on each box that has no area and was left out.

    Raises InputError naming the file for what is no such file and for a class that is not in `classes`.
    """
    rows, dropped = [], []
    try:
        for item in ElementTree.parse(path).getroot().iter("object"):
            name = item.findtext("name", "")
            if name not in classes:
                raise InputError(f"{path}: a box of {name!r}; the classes are {', '.join(classes)}")
            corners = [float(item.findtext(f"bndbox/{side}", "nan")) for side in ("xmin", "ymin", "xmax", "ymax")]
            if not np.isfinite(corners).all():
                raise InputError(f"{path}: a box of {name} lacks xmin, ymin, xmax or ymax")
            if corners[2] <= corners[0] or corners[3] <= corners[1]:
                dropped.append(f"{path.name}: {name} {corners}")
            else:
                rows.append([float(classes.index(name)), *corners])
    except (ElementTree.ParseError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not a sound Pascal VOC file ({error}). Fetch the set again.") from error
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5), dropped


def load_image(path: Path, size: tuple[int, int]) -> tuple[Tensor, Letterbox]:
    """A picture as uint8 [3, height, width], scaled to fit `size` (width, height), and how it lies in it.

    Turned as its EXIF data say it is to be seen. 16 bits become 8 by their upper half; transparency is left out. Raises
    InputError naming the file for what Pillow cannot read, and for floating-point pixels, which have no scale.
    """
    pillow: Any = require("PIL.Image", "images")
    try:
        with pillow.open(path) as stored:
            picture = require("PIL.ImageOps", "images").exif_transpose(stored)
            place = Letterbox.fit(picture.size, size)
            fitted = _eight_bits(picture, path).resize((place.width, place.height), pillow.Resampling.BILINEAR)
            pixels = np.array(fitted, dtype=np.uint8)
    # A damaged PNG is a SyntaxError; a picture of billions of pixels is refused by an error of its own.
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as a picture ({error})") from error
    frame = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    frame[:, : place.height, : place.width] = torch.from_numpy(pixels).permute(2, 0, 1)
    return frame, place


def _eight_bits(picture: Any, path: Path) -> Any:
    """The picture in RGB; Pillow alone would cut 16 bits at 255."""
    if picture.mode == "F":
        raise InputError(f"{path}: has floating-point pixels, of which nobody says what is white; save it with 8 bits")
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.int64) >> 8
        picture = require("PIL.Image", "images").fromarray(grey.clip(0, 255).astype(np.uint8))
    elif "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _decode(home: Path, names: list[str], size: tuple[int, int]) -> Arrays:
    frames, boxes, dropped = [], [], []
    for name in names:
        frame, place = load_image(_image(home, name), size)
        found, lines = read_voc(_annotation(home, name), BCCD.kinds)
        frames.append(frame[None])
        boxes.append(place.boxes(found))
        dropped += lines
    for line in dropped:
        _log.warning("BCCD: a box without area was left out: %s", line)
    return {
        "frames": torch.stack(frames).numpy(),
        "boxes": torch.cat(boxes).numpy(),
        "counts": np.array([len(found) for found in boxes], dtype=np.int64),
        "dropped": np.array(len(dropped)),
    }


def _home(root: str | os.PathLike[str] | None) -> Path:
    return (data_home() if root is None else Path(root).expanduser().absolute()) / "BCCD"


def _names(home: Path, split: str) -> list[str]:
    path = home / "ImageSets" / "Main" / f"{split}.txt"
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise InputError(
            f"BCCD: {path} is not there ({error}). Set SPIKEKIT_DATA (or root=) to the folder that holds BCCD, "
            "from github.com/Shenggan/BCCD_Dataset."
        ) from error


def _image(home: Path, name: str) -> Path:
    return home / "JPEGImages" / f"{name}.jpg"


def _annotation(home: Path, name: str) -> Path:
    return home / "Annotations" / f"{name}.xml"
