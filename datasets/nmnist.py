"""N-MNIST: real recordings of MNIST digits in front of a moving ATIS event camera.

Orchard, Jayawant, Cohen, Thakor, "Converting static image datasets to spiking neuromorphic datasets using
saccades", Front. Neurosci. 9:437, 2015; CC BY-SA 4.0. 60,000 + 10,000 recordings of three saccades, about
300 ms and 4,000 events each, 34 x 34 pixels. The files are read by tonic; this module finds them, also when
only a part of the set is there, and checks that what came out is what went in.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from spikekit.datasets.archive import fetch_folder
from spikekit.datasets.home import data_home
from spikekit.datasets.source import Split, checked_index, checked_split
from spikekit.errors import EventError, InputError, require
from spikekit.events import EventStream

_EVENT_BYTES: Final = 5
_MAX_ARCHIVE: Final = 4 * 1024**3
_FOLDERS: Final = {"train": ("Train",), "test": ("Test",), "all": ("Train", "Test")}
_READ_AS: Final = np.dtype([("x", np.int32), ("y", np.int32), ("t", np.int64), ("p", np.int8)])
_log = logging.getLogger(__name__)


class NMNIST:
    """Recordings of one split: `dataset[i] -> (EventStream, label)`.

    root: the folder that holds `NMNIST/Train/<digit>/*.bin` and `NMNIST/Test/...`; None means
    `data_home()`. Any part of the set will do. The order is that of the file numbers, which is MNIST's own;
    "all" is train, then test. Times start near 0 us. In these files polarity 1 marks the trailing edge of
    the bright digit.

    download=True fetches a split of which no file is there (about 1 GB for train). Raises InputError where
    nothing is found, EventError naming the file for one that is truncated, empty, a web page, or not from
    this sensor.
    """

    name = "N-MNIST"
    sensor = (34, 34)

    def __init__(self, split: Split, root: str | os.PathLike[str] | None = None, download: bool = False) -> None:
        self.split = checked_split(split)
        self.root = _home(root)
        found: list[tuple[Path, int]] = []
        for folder in _FOLDERS[split]:
            part = _recordings(self.root / folder)
            if not part and download:
                _download(self.root / folder)
                part = _recordings(self.root / folder)
            if not part:
                raise InputError(_missing(self.root / folder))
            found += part
        self.files = [path for path, _ in found]
        self._labels = np.array([label for _, label in found], dtype=np.int64)
        self._labels.flags.writeable = False

    @classmethod
    def available(cls, root: str | os.PathLike[str] | None = None) -> bool:
        """Whether both splits hold at least one recording, so that nothing needs to be downloaded."""
        return all(_recordings(_home(root) / folder) for folder in _FOLDERS["all"])

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The digit of each recording, int64 [N], without reading any file."""
        return self._labels

    def __len__(self) -> int:
        """Return the number of recordings found."""
        return len(self.files)

    def __repr__(self) -> str:
        return f"NMNIST({self.split!r}, {len(self)} recordings in {self.root})"

    def __getitem__(self, index: int) -> tuple[EventStream, int]:
        """Read recording `index` from its file -> (EventStream, digit)."""
        i = checked_index(index, len(self))
        return read_recording(self.files[i]), int(self._labels[i])

    def fingerprint(self) -> str:
        """Hash of the names, the order and every byte of the files; times of modification do not matter."""
        digest = hashlib.sha256()
        for path in self.files:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self.root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()


def read_recording(path: Path) -> EventStream:
    """Read one N-MNIST `.bin` file (40 bits an event), or raise EventError naming it."""
    content = path.read_bytes()
    if not content:
        raise EventError(f"{path} is empty. Fetch it again; a recording holds some thousands of events.")
    if content[:2048].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise EventError(f"{path} is a web page, not a recording: the download failed. Fetch it again.")
    if len(content) % _EVENT_BYTES:
        raise EventError(
            f"{path} is truncated: {len(content)} bytes is not a multiple of {_EVENT_BYTES}, the size of "
            "an event. Fetch it again."
        )
    tonic_io: Any = require("tonic.io", "events")
    events = tonic_io.read_mnist_file(io.BytesIO(content), dtype=_READ_AS, is_stream=True)
    markers = len(content) // _EVENT_BYTES - len(events)
    if markers:
        # The reader takes row 240 for a clock overflow and drops it; 0.3 s cannot overflow a clock of 8 s.
        raise EventError(f"{path}: {markers} events are in row 240, outside the 34x34 sensor: a damaged file.")
    return EventStream.checked(events["t"], events["x"], events["y"], events["p"], NMNIST.sensor, source=str(path))


def _home(root: str | os.PathLike[str] | None) -> Path:
    return (data_home() if root is None else Path(root).expanduser().absolute()) / "NMNIST"


def _recordings(folder: Path) -> list[tuple[Path, int]]:
    """Find the files of a split and their labels, by file number: sorted by digit, MNIST's order is lost."""
    found = [(path, int(path.parent.name)) for path in folder.glob("[0-9]/*.bin")]
    return sorted(found, key=lambda item: (item[0].name, item[1]))


def _missing(folder: Path) -> str:
    return (
        f"N-MNIST: no recordings <digit>/*.bin in {folder}. Set SPIKEKIT_DATA (or root=) to the folder that "
        "holds NMNIST/Train and Test, pass download=True to fetch the set, or use SaccadeDigits, which "
        "is synthetic and needs no download."
    )


def _download(folder: Path) -> None:
    published: Any = require("tonic.datasets", "events").NMNIST
    part = folder.name.lower()
    url, md5 = getattr(published, f"{part}_url"), getattr(published, f"{part}_md5")
    _log.info("downloading N-MNIST %s from %s into %s", part, url, folder)
    fetch_folder(url, folder, md5=md5, suffix=".bin", max_bytes=_MAX_ARCHIVE)
