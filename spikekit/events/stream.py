"""A recording of an event camera as four plain arrays, checked once when it is made.

Event data fails in silence: an x of -1 wraps to the far edge, unsorted times fall out of every time window, a
float timestamp in seconds becomes zero. An `EventStream` cannot hold any of these, so the code that
reads one never has to look.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spikekit.errors import EventError

_DTYPES = {"t": np.int64, "x": np.int32, "y": np.int32, "p": np.int8}


@dataclass(frozen=True, eq=False, repr=False)
class EventStream:
    """Events of one recording, sorted by time; the arrays are read-only and share one length [n].

    t: int64 microseconds, not negative, never going back. x, y: int32 column and row inside `sensor`.
    p: int8 polarity, 0 or 1. sensor: (width, height) in pixels. source: where it came from, for errors.

    The constructor takes exactly these dtypes; `checked` and `sort` take whatever a reader gives. All three
    raise EventError for data that is not a recording of this sensor.
    """

    t: npt.NDArray[np.int64]
    x: npt.NDArray[np.int32]
    y: npt.NDArray[np.int32]
    p: npt.NDArray[np.int8]
    sensor: tuple[int, int]
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sensor", _checked_sensor(self.sensor, self.source))
        arrays = {name: getattr(self, name) for name in _DTYPES}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype != _DTYPES[name]:
                found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise EventError(
                    f"{_where(self.source)}{name} must be a numpy array of {np.dtype(_DTYPES[name])}, "
                    f"got {found}. EventStream.checked(t, x, y, p, sensor) converts it without loss."
                )
        _check_lengths(arrays, self.source)
        _check_values(arrays, self.sensor, self.source)
        for name, array in arrays.items():
            frozen = array.copy() if array.flags.writeable else array
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)

    @classmethod
    def checked(
        cls,
        t: npt.ArrayLike,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        p: npt.ArrayLike,
        sensor: Sequence[int],
        *,
        source: str = "",
    ) -> EventStream:
        """Check and convert sorted events of any integer dtype.

        t, x, y: integers [n]; p: integers or bool [n], {0, 1} or {-1, 1} (-1 becomes 0). Empty arrays are a
        legal, empty recording. Raises EventError, naming `source`, the axis, the first bad index and its
        value.
        """
        return cls(**_converted(t, x, y, p, sensor, source), source=source)

    @classmethod
    def sort(
        cls,
        t: npt.ArrayLike,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        p: npt.ArrayLike,
        sensor: Sequence[int],
        *,
        source: str = "",
    ) -> EventStream:
        """As `checked`, for events in any order; events of the same microsecond keep their order."""
        fields = _converted(t, x, y, p, sensor, source)
        order = np.argsort(fields["t"], kind="stable")
        return cls(**{name: a[order] if name in _DTYPES else a for name, a in fields.items()}, source=source)

    def __len__(self) -> int:
        """Return the number of events."""
        return int(self.t.size)

    def __repr__(self) -> str:
        span = f"t {self.t[0]}..{self.t[-1]} us" if len(self) else "no events"
        return f"EventStream({len(self)} events, {span}, sensor {self.sensor[0]}x{self.sensor[1]})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A plain pickle would come back with writeable, unchecked arrays.
        return EventStream, (self.t, self.x, self.y, self.p, self.sensor, self.source)

    @property
    def duration(self) -> int:
        """Microseconds from the first event to the last; 0 when there are fewer than two."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    def slice_time(self, start: int, stop: int, *, rebase: bool = False) -> EventStream:
        """Events with start <= t < stop (microseconds); `rebase` subtracts `start` from their times."""
        if not 0 <= start <= stop:
            raise EventError(
                f"{_where(self.source)}slice_time needs 0 <= start <= stop, got start {start}, stop {stop}."
            )
        first, last = np.searchsorted(self.t, [start, stop], side="left")
        part = self[first:last]
        if not rebase:
            return part
        return EventStream(part.t - start, part.x, part.y, part.p, self.sensor, self.source)

    def __getitem__(self, events: slice) -> EventStream:
        """Events by position, as a stream: `stream[:100]`; a slice with a positive step keeps the order."""
        if not isinstance(events, slice):
            raise EventError(
                f"{_where(self.source)}a stream is indexed with a slice, got {type(events).__name__}. "
                "For one event read stream.t[i], stream.x[i], stream.y[i], stream.p[i]."
            )
        return EventStream(self.t[events], self.x[events], self.y[events], self.p[events], self.sensor, self.source)


def _where(source: str) -> str:
    return f"{source}: " if source else "events: "


def _checked_sensor(sensor: Sequence[int], source: str) -> tuple[int, int]:
    try:
        width, height = (operator.index(side) for side in sensor)
    except (TypeError, ValueError):
        width = height = 0
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise EventError(
            f"{_where(source)}sensor must be (width, height), two positive integers, got {sensor!r}. "
            "Leave out the number of polarities; it is always 2."
        )
    return width, height


def _check_lengths(arrays: dict[str, npt.NDArray[Any]], source: str) -> None:
    shapes = {name: a.shape for name, a in arrays.items()}
    if any(a.ndim != 1 for a in arrays.values()) or len(set(shapes.values())) != 1:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise EventError(
            f"{_where(source)}t, x, y and p must be one-dimensional and of one length, got {found}. "
            "Check that the columns come from the same file and were not transposed."
        )


def _converted(
    t: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike, p: npt.ArrayLike, sensor: Sequence[int], source: str
) -> dict[str, Any]:
    """Bring the four columns to their dtypes, refusing any value that the new dtype would change."""
    size = _checked_sensor(sensor, source)
    try:
        arrays = {name: np.asarray(a) for name, a in (("t", t), ("x", x), ("y", y), ("p", p))}
    except ValueError as error:
        raise EventError(f"{_where(source)}t, x, y and p must be arrays of integers: {error}") from error
    _check_lengths(arrays, source)
    for name, a in arrays.items():
        # numpy makes float64 of an empty list: no event can be lost there.
        if a.size and a.dtype.kind not in ("iub" if name == "p" else "iu"):
            fix = (
                "Timestamps are whole microseconds: np.round(seconds * 1e6).astype(np.int64)."
                if name == "t"
                else f"Convert it with {name}.astype(np.int32) once you know that it holds whole numbers."
            )
            raise EventError(f"{_where(source)}{name} must hold integers, got {a.dtype}. {fix}")
    _check_clock(arrays["t"], source)
    _check_inside(arrays, size, source)
    arrays["p"] = _checked_polarity(arrays["p"], source)
    return {name: a.astype(_DTYPES[name]) for name, a in arrays.items()} | {"sensor": size}


def _check_values(arrays: dict[str, npt.NDArray[Any]], sensor: tuple[int, int], source: str) -> None:
    """Raise for values that no recording of this sensor holds; the dtypes are right already."""
    t, p = arrays["t"], arrays["p"]
    _check_clock(t, source)
    if (bad := t[1:] < t[:-1]).any():
        i = int(bad.argmax()) + 1
        raise EventError(
            f"{_where(source)}t is not sorted: t[{i}] = {t[i]} comes after t[{i - 1}] = {t[i - 1]}. "
            "If the file is only out of order, use EventStream.sort(t, x, y, p, sensor); "
            "if its counter wraps, unwrap it first."
        )
    _check_inside(arrays, sensor, source)
    if (bad := (p != 0) & (p != 1)).any():
        i = int(bad.argmax())
        raise EventError(f"{_where(source)}p[{i}] = {p[i]} is not 0 or 1. Use EventStream.checked to map -1.")


def _check_clock(t: npt.NDArray[Any], source: str) -> None:
    if (bad := t < 0).any():
        i = int(bad.argmax())
        raise EventError(
            f"{_where(source)}t[{i}] = {t[i]} is negative: a counter that wrapped, or a wrong offset. "
            "Unwrap the timestamps, or subtract the smallest one, before the stream is made."
        )
    if t.dtype == np.uint64 and (bad := t > np.uint64(np.iinfo(np.int64).max)).any():
        i = int(bad.argmax())
        raise EventError(
            f"{_where(source)}t[{i}] = {t[i]} does not fit int64: an unsigned counter wrapped below zero. "
            "Find the subtraction that went negative and do it in int64."
        )


def _check_inside(arrays: dict[str, npt.NDArray[Any]], sensor: tuple[int, int], source: str) -> None:
    for name, size, side in (("x", sensor[0], "width"), ("y", sensor[1], "height")):
        a = arrays[name]
        if (bad := (a < 0) | (a >= size)).any():
            i = int(bad.argmax())
            raise EventError(
                f"{_where(source)}{name}[{i}] = {a[i]} is outside the sensor: {side} {size} allows "
                f"0..{size - 1}. The sensor is (width, height), got {sensor}: correct it, or fix the events."
            )


def _checked_polarity(p: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
    if p.dtype.kind != "i":
        known = p <= 1
    else:
        signed = bool((p == -1).any())
        known = ((p == -1) | (p == 1)) if signed else ((p == 0) | (p == 1))
    if not known.all():
        i = int((~known).argmax())
        raise EventError(
            f"{_where(source)}p[{i}] = {p[i]}: polarities must all be in {{0, 1}} or all in {{-1, 1}}, "
            f"got {np.unique(p)[:8].tolist()}. Map them before the stream is made."
        )
    return p if p.dtype.kind != "i" else p.clip(min=0)
