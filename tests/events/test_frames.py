"""Frames: no event lost, none moved, no axis swapped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikekit.errors import EventError, InputError
from spikekit.events import EventStream, frames_by_count, frames_by_time

WIDTH, HEIGHT = 7, 3
BOTH = [frames_by_time, frames_by_count]


@st.composite
def streams(draw):
    longest = draw(st.sampled_from([5, 30, 400_000]))  # short ones put many events on the edges of bins
    event = st.tuples(st.integers(0, longest), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1))
    events = np.array(sorted(draw(st.lists(event, max_size=60))), dtype=np.int64).reshape(-1, 4)
    return EventStream.checked(*events.T, (WIDTH, HEIGHT))


def one(t, x, y, p):
    return EventStream.checked(t, x, y, p, (WIDTH, HEIGHT), source="rec")


@pytest.mark.parametrize("make", BOTH)
@given(stream=streams(), n_bins=st.integers(1, 12))
def test_every_event_is_counted_once_where_it_happened(make, stream, n_bins):
    frames = make(stream, n_bins)
    assert frames.shape == (n_bins, 2, HEIGHT, WIDTH)
    assert frames.dtype == np.int32
    assert frames.sum() == len(stream)
    expected = np.zeros((2, HEIGHT, WIDTH), dtype=np.int64)
    for x, y, p in zip(stream.x, stream.y, stream.p, strict=True):
        expected[p, y, x] += 1
    assert np.array_equal(frames.sum(axis=0), expected)


@pytest.mark.parametrize("make", BOTH)
@given(stream=streams(), n_bins=st.integers(1, 12))
def test_binary_is_where_the_count_is_not_zero(make, stream, n_bins):
    binary = make(stream, n_bins, binary=True)
    assert binary.dtype == np.uint8
    assert np.array_equal(binary, make(stream, n_bins) > 0)


@given(stream=streams(), n_bins=st.integers(1, 12), duration=st.none() | st.just(400_001))
def test_the_bin_is_the_one_of_the_documented_formula(stream, n_bins, duration):
    frames = frames_by_time(stream, n_bins, duration=duration)
    start = 0 if duration or not len(stream) else int(stream.t[0])
    span = duration or stream.duration + 1
    expected = np.zeros(n_bins, dtype=np.int64)
    for t in stream.t.tolist():
        expected[(t - start) * n_bins // span] += 1
    assert frames.sum(axis=(1, 2, 3)).tolist() == expected.tolist()


@given(stream=streams(), n_bins=st.integers(1, 12))
def test_equal_counts_differ_by_one_at_most(stream, n_bins):
    sizes = frames_by_count(stream, n_bins).sum(axis=(1, 2, 3))
    assert sizes.max() - sizes.min() <= 1


@given(stream=streams(), n_bins=st.integers(1, 12), data=st.data())
def test_the_order_within_one_microsecond_does_not_matter(stream, n_bins, data):
    shuffled = np.array(data.draw(st.permutations(range(len(stream)))), dtype=np.int64)
    order = shuffled[np.argsort(stream.t[shuffled], kind="stable")]
    other = EventStream.checked(*(a[order] for a in (stream.t, stream.x, stream.y, stream.p)), stream.sensor)
    assert np.array_equal(frames_by_time(other, n_bins), frames_by_time(stream, n_bins))


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("binary", [False, True])
def test_an_empty_recording_gives_zeros_of_the_right_shape(make, binary):
    frames = make(one([], [], [], []), 5, binary=binary)
    assert frames.shape == (5, 2, HEIGHT, WIDTH)
    assert not frames.any()


def test_axes_are_time_polarity_row_column():
    frames = frames_by_time(one([0, 9], [6, 1], [2, 0], [1, 0]), 2)
    assert np.argwhere(frames).tolist() == [[0, 1, 2, 6], [1, 0, 0, 1]]


def test_the_last_event_is_in_the_last_bin():
    t = np.arange(50) * 1000
    frames = frames_by_time(one(t, [0] * 50, [0] * 50, [0] * 50), 10)
    assert frames.sum(axis=(1, 2, 3)).tolist() == [5] * 10


def test_one_event_and_more_bins_than_microseconds():
    frames = frames_by_time(one([123], [1], [1], [1]), 8)
    assert frames.sum(axis=(1, 2, 3)).tolist() == [1] + [0] * 7


def test_duration_fixes_the_bins_and_refuses_later_events():
    stream = one([10, 150, 299], [0, 0, 0], [0, 0, 0], [0, 0, 0])
    assert frames_by_time(stream, 3, duration=300).sum(axis=(1, 2, 3)).tolist() == [1, 1, 1]
    assert frames_by_time(stream, 3, duration=3000).sum(axis=(1, 2, 3)).tolist() == [3, 0, 0]
    with pytest.raises(EventError, match=r"rec: 2 events lie at or after duration 150 us, the last at 299.*slice"):
        frames_by_time(stream, 3, duration=150)


def test_many_events_in_one_pixel_do_not_overflow():
    zeros = np.zeros(70_000, np.int64)
    assert frames_by_time(one(zeros, zeros, zeros, zeros), 1)[0, 0, 0, 0] == 70_000


def test_times_near_the_end_of_int64_are_binned_exactly():
    top = 2**63 - 1
    frames = frames_by_time(one([0, top // 2, top // 2 + 1, top], [0] * 4, [0] * 4, [0] * 4), 2)
    assert frames.sum(axis=(1, 2, 3)).tolist() == [2, 2]


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(
    ("n_bins", "message"), [(0, "at least 1 and fit int64, got 0"), (2.5, "whole number, got 2.5")]
)
def test_bad_n_bins(make, n_bins, message):
    with pytest.raises(InputError, match=f"n_bins must be .*{message}"):
        make(one([1], [1], [1], [1]), n_bins)


def test_bad_duration():
    for duration in (0, 2**63):
        with pytest.raises(InputError, match=f"duration must be at least 1 and fit int64, got {duration}"):
            frames_by_time(one([], [], [], []), 2, duration=duration)
