"""A simulated event camera that looks at small pictures with three quick eye movements, as N-MNIST's did.

Each pixel follows the logarithm of its light and fires each time it moved by the contrast threshold since
the last event (Lichtsteiner, Posch, Delbruck, IEEE JSSC 43(2), 2008; simulated between samples as in
Rebecq, Gehrig, Scaramuzza, "ESIM", CoRL 2018). The path is the triangle of Orchard et al. 2015 in pixels of
the sensor.

Light, time and thresholds are integers, so that every machine makes the same events from the same seed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SENSOR: Final = (34, 34)
PICTURE: Final = 8
_WHITE: Final = 16
_ZOOM: Final = 3
_STEP_US: Final = 5_000
_SACCADE_STEPS: Final = 20
_DURATION_US: Final = 3 * _SACCADE_STEPS * _STEP_US
_PATH: Final = ((0.0, 0.0), (3.5, 7.0), (7.0, 0.0), (0.0, 0.0))
_TAP: Final = 64
_FULL: Final = _WHITE * _TAP * _TAP
_BACKGROUND: Final = 0.15
_LOG_UNIT: Final = 4096
_THRESHOLD: Final = 0.4
_MISMATCH: Final = 0.04
_NOISE_EVENTS: Final = 40

Arrays = dict[str, npt.NDArray[Any]]


def record(pictures: npt.NDArray[Any], numbers: npt.NDArray[np.int64], seed: int) -> Arrays:
    """Record each picture -> all events, one recording after the other.

    pictures: integers 0..16, [N, 8, 8]. numbers: [N], what recording i draws its noise from together with
    `seed`: the events of a picture do not depend on which others are recorded with it. Returns t int32
    microseconds, x, y, p uint8, each [events] and sorted by time within a recording, and offsets int64 [N +
    1]. p = 1 is brighter.
    """
    parts = [_signal(pictures, seed), _noise(numbers, seed)]
    event = {name: np.concatenate([part[name] for part in parts]) for name in "ityxp"}
    sizes = np.bincount(event["i"], minlength=len(pictures))
    # One number an event, by recording, then time, then place: sorting it is quicker than five arrays.
    shape = (len(pictures), _DURATION_US, SENSOR[1], SENSOR[0], 2)
    order = np.sort(np.ravel_multi_index([event[name] for name in "ityxp"], shape))
    _, t, y, x, p = np.unravel_index(order, shape)
    arrays: Arrays = {"t": t.astype(np.int32)}
    arrays |= {name: a.astype(np.uint8) for name, a in (("x", x), ("y", y), ("p", p))}
    return arrays | {"offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)}


def positions() -> npt.NDArray[np.float64]:
    """Where the picture stands at each sample, pixels right and down [61, 2]; smooth within each saccade."""
    phase = (1 - np.cos(np.pi * np.arange(1, _SACCADE_STEPS + 1) / _SACCADE_STEPS)) / 2
    corners = np.asarray(_PATH)
    legs = [a + phase[:, None] * (b - a) for a, b in pairwise(corners)]
    return np.concatenate([corners[:1], *legs])


def _signal(pictures: npt.NDArray[Any], seed: int) -> Arrays:
    """Fire wherever the log intensity crosses a threshold; time is interpolated between two samples."""
    n, (width, height) = len(pictures), SENSOR
    mismatch = np.random.default_rng([seed, 0]).standard_normal((height, width))
    threshold = np.rint(_LOG_UNIT * _THRESHOLD * (1 + _MISMATCH * mismatch.clip(-3, 3))).astype(np.int32)
    # float32 holds these whole numbers exactly (all below 2**24), so BLAS may sum them in any order.
    light = pictures.astype(np.float32)
    table = np.rint(_LOG_UNIT * np.log(_BACKGROUND + np.arange(_FULL + 1) / _FULL)).astype(np.int32)
    reference: npt.NDArray[np.int32] | None = None
    before: npt.NDArray[np.int32] = np.zeros((n, height, width), dtype=np.int32)
    events: list[Arrays] = []
    for step, (right, down) in enumerate(positions()):
        now = table[(_taps(down, height) @ light @ _taps(right, width).T).astype(np.int32)]
        if reference is None:
            reference = now.copy()
        else:
            events.append(_crossings(before, now, reference, threshold, (step - 1) * _STEP_US))
        before = now
    return {name: np.concatenate([part[name] for part in events]) for name in events[0]}


def _taps(shift: float, size: int) -> npt.NDArray[np.float32]:
    """Bilinear weights [size, 8], in whole 64ths, of a picture enlarged and moved by `shift` pixels."""
    rest = (size - _ZOOM * PICTURE - 7) / 2  # the picture and its 7 pixels of way stand in the middle
    at = (np.arange(size) + 0.5 - rest - shift) / _ZOOM - 0.5
    weights: npt.NDArray[np.float64] = np.clip(1 - np.abs(at[:, None] - np.arange(PICTURE)), 0, None)
    return np.floor(weights * _TAP).astype(np.float32)


def _crossings(
    before: npt.NDArray[np.int32],
    now: npt.NDArray[np.int32],
    reference: npt.NDArray[np.int32],
    threshold: npt.NDArray[np.int32],
    start: int,
) -> Arrays:
    """Events of one step; `reference`, the level at each pixel's last event, is moved on in place."""
    where = np.nonzero(np.abs(now - reference) >= threshold)
    level, step = reference[where], threshold[where[1:]]
    moved = now[where] - level
    count, sign = np.abs(moved) // step, np.sign(moved)
    reference[where] += sign * count * step
    # The k-th event is where the line from `before` to `now` crosses reference + k thresholds.
    pixel = np.repeat(np.arange(len(count)), count)
    k = np.arange(len(pixel)) - np.repeat(np.cumsum(count) - count, count) + 1
    way = level[pixel] + k * (sign * step)[pixel] - before[where][pixel]
    rise = (now[where] - before[where])[pixel]
    i, y, x = (axis[pixel] for axis in where)
    return {"i": i, "t": start + way * (_STEP_US - 1) // rise, "x": x, "y": y, "p": sign[pixel] > 0}


def _noise(numbers: npt.NDArray[np.int64], seed: int) -> Arrays:
    """About 40 events a recording that mean nothing: any pixel, any time, any polarity."""
    draws = [np.random.default_rng([seed, 1, int(number)]) for number in numbers]
    sizes = [int(draw.integers(_NOISE_EVENTS // 2, _NOISE_EVENTS * 3 // 2 + 1)) for draw in draws]
    limits = (_DURATION_US, SENSOR[0], SENSOR[1], 2)
    values = np.concatenate([draw.integers(0, limits, size=(size, 4)) for draw, size in zip(draws, sizes, strict=True)])
    return {"i": np.repeat(np.arange(len(numbers)), sizes)} | dict(zip("txyp", values.T, strict=True))
