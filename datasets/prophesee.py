"""Prophesee's files: events in `.dat`, labelled boxes in `.npy`; and Gen1, the automotive set that comes in them.

de Tournemire, Nitti, Perot, Migliore, Sironi, "A large scale event-based detection dataset for automotive", 2020,
arXiv 2001.08499. A `.dat` file is lines that begin with %, two bytes (kind of event, bytes an event: 8), then events of
two little-endian 32-bit numbers: microseconds; and x in bits 0 to 13, y in 14 to 27, polarity in 28.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from spikekit.datasets.box_dataset import BoxSample, collate_boxes
from spikekit.datasets.home import data_home
from spikekit.errors import EventError, InputError
from spikekit.events import EventStream, frames_by_time

_EVENT: Final = np.dtype([("t", "<u4"), ("place", "<u4")])
_SPLITS: Final = ("train", "val", "test")
_BOX_FIELDS: Final = ("x", "y", "w", "h", "class_id")


class DatFile:
    """A `.dat` file of events, mapped into memory: only what is asked for is read.

    sensor: (width, height); None: as the header says, 304 × 240 (Gen1) where it says nothing. Raises EventError naming
    the file for one that is not there, empty, cut short or something else.
    """

    def __init__(self, path: str | os.PathLike[str], sensor: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        try:
            header, start = _header(self.path)
        except OSError as error:
            raise EventError(f"{self.path}: cannot be read ({error.strerror})") from error
        self.sensor = sensor or (self._side(header, "width", 304), self._side(header, "height", 240))
        size = self.path.stat().st_size - start
        if size % _EVENT.itemsize:
            raise EventError(f"{self.path} is truncated: {size} bytes of events are no multiple of 8. Fetch it again.")
        count = size // _EVENT.itemsize
        # An empty file cannot be mapped.
        self._events = np.memmap(self.path, _EVENT, "r", start, (count,)) if count else np.zeros(0, _EVENT)

    def _side(self, header: dict[str, str], name: str, default: int) -> int:
        text = header.get(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text)):
            raise EventError(
                f"{self.path}: the {name} in its header must be a whole number above 0, got {text!r}; give sensor="
            )
        return int(text)

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._events)

    def read(self, start: int = 0, stop: int | None = None) -> EventStream:
        """Events with start <= t < stop, microseconds of the file's clock; stop=None: to the end."""
        times = self._events["t"]
        first = int(np.searchsorted(times, np.uint32(max(start, 0))))
        last = len(times) if stop is None else int(np.searchsorted(times, np.uint32(max(stop, 0))))
        part = np.asarray(self._events[first:last])
        place = part["place"]
        x, y, p = place & 0x3FFF, place >> 14 & 0x3FFF, place >> 28 & 1
        return EventStream.checked(part["t"].astype(np.int64), x, y, p, self.sensor, source=str(self.path))


def read_boxes(path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.int64], Tensor]:
    """The labels of a `_bbox.npy` file: times int64 [n] in microseconds, and boxes float32 [n, 5].

    Its fields are ts (or t), x, y, w, h, class_id and others that are not used. Boxes may reach over the sensor's edge.
    Raises EventError naming the file for another one.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EventError(f"{path}: is not a readable .npy file of boxes ({error})") from error
    names = rows.dtype.names or ()
    clock = next((name for name in ("ts", "t") if name in names), None)
    if clock is None or not set(_BOX_FIELDS) <= set(names):
        raise EventError(f"{path}: boxes need the fields ts and {', '.join(_BOX_FIELDS)}; found {list(names)}")
    x, y, w, h, label = (torch.from_numpy(rows[name].astype(np.float32)) for name in _BOX_FIELDS)
    return rows[clock].astype(np.int64), torch.stack([label, x, y, x + w, y + h], 1)


class _Label(NamedTuple):
    events: int
    time: int
    boxes: Tensor


class Gen1(Dataset[BoxSample]):
    """One split of Gen1: `dataset[i] -> (frames float32 [bins, 2, H, W], boxes float32 [n, 5])`, one sample a label.

    root: the folder that holds `Gen1/{train,val,test}/**/*_td.dat` with `*_bbox.npy` beside; None means `data_home()`.
    The frames cover the `window` microseconds before the label, in `bins` equal stretches, 1 where anything happened;
    they are the sensor's 304 × 240 pixels, with zeros right and below up to multiples of 32.
    As the set's own evaluation does, labels in the first `skip` microseconds of a recording are left out, and boxes
    with a side below `least_side` or a diagonal below `least_diagonal` pixels; boxes are cut at the sensor's edge
    first. Classes: car, pedestrian. Raises InputError for another split, a window or bins below 1, and files that are
    not there; EventError for files that cannot be read.
    """

    name = "Gen1"
    classes = ("car", "pedestrian")
    sensor = (304, 240)

    def __init__(
        self,
        split: str,
        root: str | os.PathLike[str] | None = None,
        window: int = 250_000,
        bins: int = 5,
        skip: int = 500_000,
        least_side: float = 10,
        least_diagonal: float = 30,
    ) -> None:
        if split not in _SPLITS:
            raise InputError(f"Gen1: split must be one of {_SPLITS}, got {split!r}")
        for name, value in (("window", window), ("bins", bins)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"Gen1: {name} must be a whole number, 1 or more, got {value!r}")
        home = (data_home() if root is None else Path(root).expanduser().absolute()) / self.name / split
        found = sorted(home.rglob("*_td.dat"))
        if not found:
            raise InputError(
                f"Gen1: no *_td.dat in {home}. Set SPIKEKIT_DATA (or root=) to the folder that holds Gen1/{split}; the "
                "set is given out by Prophesee."
            )
        self.window, self.bins, self.steps = window, bins, bins
        self.files = [DatFile(path, self.sensor) for path in found]
        self._labels: list[_Label] = []
        for number, file in enumerate(self.files):
            times, boxes = read_boxes(_beside(file.path))
            boxes = self._kept(boxes, least_side, least_diagonal)
            whole = ~torch.isnan(boxes[:, 0])
            for time in np.unique(times[times >= max(skip, window)]):
                chosen = boxes[torch.from_numpy(times == time) & whole]
                if len(chosen):
                    self._labels.append(_Label(number, int(time), chosen))

    def _kept(self, boxes: Tensor, least_side: float, least_diagonal: float) -> Tensor:
        """The boxes cut at the edge, in place; those too small have NaN for a class."""
        width, height = self.sensor
        cut = boxes.clone()
        cut[:, 1::2], cut[:, 2::2] = cut[:, 1::2].clamp(0, width), cut[:, 2::2].clamp(0, height)
        w, h = cut[:, 3] - cut[:, 1], cut[:, 4] - cut[:, 2]
        small = (w < least_side) | (h < least_side) | (w.square() + h.square() < least_diagonal**2)
        cut[small, 0] = torch.nan
        return cut

    def __len__(self) -> int:
        """Return the number of labelled moments."""
        return len(self._labels)

    def __getitem__(self, index: int) -> BoxSample:
        """Return the window before label `index`, and its boxes."""
        which, time, boxes = self._labels[index]
        stream = self.files[which].read(time - self.window, time)
        shifted = stream.slice_time(time - self.window, time, rebase=True)
        frames = torch.from_numpy(frames_by_time(shifted, self.bins, duration=self.window, binary=True))
        width, height = self.sensor
        return F.pad(frames.to(torch.float32), (0, -width % 32, 0, -height % 32)), boxes

    def loader(self, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> DataLoader[BoxSample]:
        """Batches x float32 [bins, B, 2, H, W] and y float32 [B, M, 5]."""
        order = torch.Generator().manual_seed(seed)
        return DataLoader(self, batch_size, shuffle=shuffle, collate_fn=collate_boxes, generator=order)


def _beside(events: Path) -> Path:
    path = events.with_name(events.name.removesuffix("_td.dat") + "_bbox.npy")
    if not path.is_file():
        raise InputError(f"{events}: its labels, {path.name}, are not beside it. Fetch them too.")
    return path


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The words of the header, in lower case, and where the events begin."""
    words: dict[str, str] = {}
    with path.open("rb") as file:
        while (line := file.peek(1)[:1]) == b"%":
            parts = file.readline(1024).decode("latin-1")[1:].split()
            if len(parts) >= 2:
                words[parts[0].lower()] = parts[1]
        if not line:
            raise EventError(f"{path} is empty, or ends within its header. Fetch it again.")
        kind = file.read(2)
        if len(kind) != 2 or kind[1] != _EVENT.itemsize or kind[0] not in (0x00, 0x0C):
            raise EventError(
                f"{path}: its events are of kind {kind.hex() or 'none'}, a .dat file of events has 0008 or 0c08: "
                "another format, or a damaged file."
            )
        return words, file.tell()
