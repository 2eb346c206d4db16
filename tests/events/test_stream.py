"""EventStream: what it accepts, what it refuses and with which words."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikekit.errors import EventError
from spikekit.events import EventStream

SENSOR = (6, 4)


def good(**changes):
    columns = {"t": [10, 20, 20, 35], "x": [0, 5, 1, 2], "y": [3, 0, 1, 2], "p": [0, 1, 1, 0]}
    return {**columns, "sensor": SENSOR, **changes}


def test_columns_get_their_dtypes_and_values():
    stream = EventStream.checked(**good(x=np.array([0, 5, 1, 2], np.uint8), p=[False, True, True, False]))
    assert [a.dtype for a in (stream.t, stream.x, stream.y, stream.p)] == [
        np.int64,
        np.int32,
        np.int32,
        np.int8,
    ]
    assert stream.t.tolist() == [10, 20, 20, 35]
    assert stream.x.tolist() == [0, 5, 1, 2]
    assert stream.y.tolist() == [3, 0, 1, 2]
    assert stream.p.tolist() == [0, 1, 1, 0]
    assert stream.sensor == SENSOR
    assert len(stream) == 4
    assert stream.duration == 25
    assert repr(stream) == "EventStream(4 events, t 10..35 us, sensor 6x4)"


@pytest.mark.parametrize("empty", [[], np.zeros(0, np.int64), np.zeros(0, np.float32)])
def test_an_empty_recording_is_legal(empty):
    stream = EventStream.checked(empty, empty, empty, empty, SENSOR)
    assert len(stream) == 0
    assert stream.duration == 0
    assert len(stream.slice_time(0, 10)) == 0
    assert len(EventStream.sort(empty, empty, empty, empty, SENSOR)) == 0
    assert "no events" in repr(stream)


@pytest.mark.parametrize(
    ("given_p", "kept"),
    [([-1, 1, 1, -1], [0, 1, 1, 0]), ([-1] * 4, [0] * 4), ([1] * 4, [1] * 4), ([0] * 4, [0] * 4)],
)
def test_signed_polarity_is_mapped(given_p, kept):
    assert EventStream.checked(**good(p=given_p)).p.tolist() == kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": [10, 20, -7, 35]}, r"t\[2\] = -7 is negative"),
        (
            {"t": np.array([1, 2, 3, 2**64 - 5], np.uint64)},
            r"t\[3\] = 18446744073709551611 does not fit int64",
        ),
        ({"t": [0.1, 0.2, 0.3, 0.4]}, r"t must hold integers, got float64.*1e6"),
        ({"t": ["a", "b", "c", "d"]}, r"t must hold integers, got <U1"),
        ({"x": [0, 5, -1, 2]}, r"x\[2\] = -1 is outside the sensor: width 6 allows 0\.\.5"),
        ({"x": [0, 6, 1, 2]}, r"x\[1\] = 6 is outside the sensor: width 6"),
        ({"y": [3, 0, 4, 2]}, r"y\[2\] = 4 is outside the sensor: height 4 allows 0\.\.3"),
        ({"y": np.array([3, 0, 255, 2], np.uint8)}, r"y\[2\] = 255"),
        ({"x": [0, 2**32, 1, 2]}, r"x\[1\] = 4294967296 is outside"),
        ({"x": [True, True, False, False]}, r"x must hold integers, got bool"),
        ({"x": [0.0, 5.0, 1.0, 2.0]}, r"x must hold integers, got float64"),
        ({"p": [0, 1, 2, 0]}, r"p\[2\] = 2: polarities"),
        ({"p": [0, 1, -1, 0]}, r"p\[0\] = 0: polarities.*\{-1, 1\}"),
        ({"p": np.array([0, 1, 255, 0], np.uint8)}, r"p\[2\] = 255"),
        ({"p": [0.0, 1.0, 1.0, 0.0]}, r"p must hold integers"),
        ({"p": [0, 1, 1]}, r"one length, got t \[4\], x \[4\], y \[4\], p \[3\]"),
        ({"t": [[1], [2, 3]]}, r"must be arrays of integers: "),
        ({"t": [1, 2, 3, 2**70]}, r"t must hold integers, got object"),
        ({"t": 5, "x": 1, "y": 1, "p": 1}, r"one-dimensional"),
        (dict.fromkeys("txyp", np.zeros((2, 2), np.int64)), r"one-dimensional.*t \[2, 2\]"),
        ({"sensor": (34, 34, 2)}, r"sensor must be \(width, height\).*\(34, 34, 2\).*polarities"),
        ({"sensor": (0, 4)}, r"sensor must be"),
        ({"sensor": 34}, r"sensor must be"),
        ({"sensor": (6.0, 4.0)}, r"sensor must be"),
    ],
)
@pytest.mark.parametrize("make", [EventStream.checked, EventStream.sort])
def test_bad_data_is_refused_with_the_place_and_the_fix(make, changes, message):
    with pytest.raises(EventError, match=f"(?s)^rec.bin: .*{message}"):
        make(**good(**changes), source="rec.bin")


def test_unsorted_times_are_refused_with_the_fix():
    with pytest.raises(EventError, match=r"rec: .*t\[2\] = 19 comes after t\[1\] = 20.*EventStream\.sort"):
        EventStream.checked(**good(t=[10, 20, 19, 35]), source="rec")
    assert EventStream.sort(**good(t=[10, 20, 19, 35])).t.tolist() == [10, 19, 20, 35]


def test_the_plain_constructor_checks_too():
    t, xyp = np.array([5, 4]), np.zeros(2, np.int32)
    with pytest.raises(EventError, match=r"p must be a numpy array of int8, got int32.*checked"):
        EventStream(t, xyp, xyp, xyp, SENSOR)
    with pytest.raises(EventError, match=r"t must be a numpy array of int64, got list"):
        EventStream([4, 5], xyp, xyp, xyp.astype(np.int8), SENSOR)
    with pytest.raises(EventError, match=r"t\[1\] = 4 comes after"):
        EventStream(t, xyp, xyp, xyp.astype(np.int8), SENSOR)
    with pytest.raises(EventError, match=r"t\[0\] = -5 is negative"):
        EventStream(-t, xyp, xyp, xyp.astype(np.int8), SENSOR)
    with pytest.raises(EventError, match=r"p\[0\] = 3 is not 0 or 1"):
        EventStream(np.sort(t), xyp, xyp, xyp.astype(np.int8) + np.int8(3), SENSOR)


def test_a_stream_cannot_be_changed_from_inside_or_outside():
    t = np.array([1, 2])
    x, p = np.zeros(2, np.int32), np.zeros(2, np.int8)
    for stream in (EventStream(t, x, x, p, SENSOR), EventStream.checked(t, x, x, p, SENSOR)):
        t[0] = 99
        assert stream.t.tolist() == [1, 2]
        t[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            stream.t[0] = 5
    assert t.flags.writeable


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_is_equal_and_still_read_only(again):
    stream = EventStream.checked(**good(), source="here")
    other = again(stream)
    assert other.t.tolist() == stream.t.tolist()
    assert other.p.tolist() == stream.p.tolist()
    assert (other.sensor, other.source) == (stream.sensor, "here")
    assert not other.y.flags.writeable


def test_sort_keeps_events_whole_and_ties_in_order():
    stream = EventStream.sort([5, 1, 5, 0], [0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 1, 0], SENSOR)
    assert stream.t.tolist() == [0, 1, 5, 5]
    assert stream.x.tolist() == [3, 1, 0, 2]
    assert stream.y.tolist() == [0, 2, 3, 1]
    assert stream.p.tolist() == [0, 1, 0, 1]
    many = EventStream.sort([7] * 100 + [3] * 100, list(range(100)) * 2, [0] * 200, [0] * 200, (100, 1))
    assert many.x.tolist() == list(range(100)) * 2


def test_slices():
    stream = EventStream.checked(**good(), source="here")
    part = stream.slice_time(20, 35)
    assert part.t.tolist() == [20, 20]
    assert part.x.tolist() == [5, 1]
    assert part.source == "here"
    assert stream.slice_time(20, 36, rebase=True).t.tolist() == [0, 0, 15]
    assert stream[1:].t.tolist() == [20, 20, 35]
    with pytest.raises(EventError, match="0 <= start <= stop, got start 5, stop 4"):
        stream.slice_time(5, 4)
    with pytest.raises(EventError, match="indexed with a slice, got int"):
        stream[0]
    with pytest.raises(EventError, match="not sorted"):
        stream[::-1]


@given(st.lists(st.integers(0, 2**62), max_size=40), st.integers(0, 2**62))
def test_cutting_at_any_time_loses_nothing(times, cut):
    t = np.sort(np.array(times, dtype=np.int64))
    zero = np.zeros(len(t), np.int64)
    stream = EventStream.checked(t, zero, zero, zero, SENSOR)
    before, after = stream.slice_time(0, cut), stream.slice_time(cut, 2**62 + 1)
    assert np.array_equal(np.concatenate([before.t, after.t]), t)
