"""Dense frames [T, 2, H, W] from an event stream: every event is counted once, in exactly one frame.

A stream is sorted, so each frame is a run of neighbouring events and the whole matter is where to cut:
at equal times or at equal numbers. The cuts are integers: no event is lost to rounding at an edge.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from spikekit.errors import EventError, InputError
from spikekit.events.stream import EventStream


def frames_by_time(
    stream: EventStream, n_bins: int, *, duration: int | None = None, binary: bool = False
) -> npt.NDArray[Any]:
    """Frames over `n_bins` equal stretches of time -> [n_bins, 2, height, width].

    duration=None: the bins cover the stream's own span, from the first event to the last, both counted (an
    event lasts its microsecond). duration=d: the bins cover 0 <= t < d microseconds; an event later than
    that is an error, never dropped. Bin k holds the events with floor((t - start) * n_bins / span) = k.

    Counts are int32; `binary` gives uint8 with 1 where anything happened. Channel = polarity. An empty stream
    gives zeros. Raises InputError for n_bins < 1 or duration < 1, EventError for events after `duration`.
    """
    n_bins = _positive(n_bins, "n_bins")
    if duration is not None:
        start, span = 0, _positive(duration, "duration")
        if len(stream) and stream.t[-1] >= span:
            late = len(stream) - int(np.searchsorted(stream.t, span))
            raise EventError(
                f"{stream.source or 'events'}: {late} events lie at or after duration {span} us, the last at "
                f"{stream.t[-1]} us. Cut them with stream.slice_time(0, {span}), or give a longer duration."
            )
    else:
        start, span = (int(stream.t[0]) if len(stream) else 0), stream.duration + 1
    # The smallest whole t of bin k is ceil(k * span / n_bins); Python integers cannot overflow here.
    edges = [start - (-k * span // n_bins) for k in range(1, n_bins)]
    cuts = np.searchsorted(stream.t, np.asarray(edges, dtype=np.int64), side="left")
    return _frames(stream, cuts, binary)


def frames_by_count(stream: EventStream, n_bins: int, *, binary: bool = False) -> npt.NDArray[Any]:
    """Frames over `n_bins` equal numbers of events -> [n_bins, 2, height, width].

    The numbers differ by one at most. Dtypes, channels and the empty stream are as in `frames_by_time`.
    Raises InputError for n_bins < 1.
    """
    n_bins = _positive(n_bins, "n_bins")
    cuts = np.asarray([k * len(stream) // n_bins for k in range(1, n_bins)], dtype=np.int64)
    return _frames(stream, cuts, binary)


def _frames(stream: EventStream, cuts: npt.NDArray[np.intp], binary: bool) -> npt.NDArray[Any]:
    """Count the events of each frame; frame k ends before event cuts[k]."""
    width, height = stream.sensor
    n_bins = len(cuts) + 1
    sizes = np.diff(cuts, prepend=0, append=len(stream))
    frame = np.repeat(np.arange(n_bins), sizes)
    cell = ((frame * 2 + stream.p) * height + stream.y) * width + stream.x
    total = n_bins * 2 * height * width
    if binary:
        flat: npt.NDArray[Any] = np.zeros(total, dtype=np.uint8)
        flat[cell] = 1
    else:
        # A count cannot pass int32: that would take 2**31 events in memory at 17 bytes each, in one pixel.
        flat = np.bincount(cell, minlength=total).astype(np.int32)
    return flat.reshape(n_bins, 2, height, width)


def _positive(value: int, name: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, got {value!r}.") from None
    if not 1 <= number < 2**63:
        raise InputError(f"{name} must be at least 1 and fit int64, got {number}.")
    return number
