"""The embedded set: deterministic, balanced, of N-MNIST's size, and with the physics of a saccade."""

from __future__ import annotations

import numpy as np
import pytest

from spikekit.datasets import SaccadeDigits
from spikekit.datasets.saccade_camera import positions, record
from spikekit.datasets.saccade_digits import split_numbers
from spikekit.errors import InputError
from spikekit.events import frames_by_time

# label, events, and sums of t, of x * 34 + y and of p of test recording 100.
GOLDEN = (8, 4138, 656343131, 2521300, 2068)


@pytest.fixture(scope="module")
def test_split():
    return SaccadeDigits("test", cache=False)


def test_the_set_is_named_synthetic_and_balanced(test_split):
    assert "synthetic" in test_split.name
    assert len(test_split) == 360
    assert np.bincount(test_split.labels).tolist() == [36] * 10


def test_recordings_are_of_the_size_of_n_mnist(test_split):
    sizes = []
    for i in range(len(test_split)):
        stream, label = test_split[i]
        assert stream.sensor == (34, 34)
        assert label == test_split.labels[i]
        assert stream.t[-1] < 300_000
        sizes.append(len(stream))
    assert min(sizes) > 1000
    assert max(sizes) < 8000
    assert 3000 < np.mean(sizes) < 5000


def test_three_saccades_with_rest_between(test_split):
    stream, _ = test_split[0]
    by_step = frames_by_time(stream, 60, duration=300_000).sum(axis=(1, 2, 3))
    for turn in (0, 20, 40):
        assert by_step[turn + 8 : turn + 12].sum() > 4 * by_step[turn : turn + 2].sum()


def test_brighter_edges_lead_the_motion():
    """The first saccade goes down: a bright bar's lower edge brightens (p = 1), its upper edge darkens."""
    bar = np.zeros((1, 8, 8), np.int64)
    bar[0, 3:5, :] = 16
    events = record(bar, np.array([0]), seed=0)
    first = events["t"] < 100_000
    rows = {p: events["y"][first & (events["p"] == p)].mean() for p in (0, 1)}
    assert rows[1] > rows[0] + 3


def test_a_dark_picture_gives_noise_alone():
    events = record(np.zeros((3, 8, 8), np.int64), np.arange(3), seed=0)
    assert events["offsets"][-1] == len(events["t"])
    assert (np.diff(events["offsets"]) <= 60).all()
    assert (np.diff(events["offsets"]) >= 20).all()


def test_the_path_returns_to_where_it_began():
    path = positions()
    assert path.shape == (61, 2)
    assert path[0].tolist() == [0, 0]
    assert path[20].tolist() == [3.5, 7]
    assert path[40].tolist() == [7, 0]
    assert np.allclose(path[60], 0)


def test_a_recording_does_not_depend_on_its_neighbours():
    pictures = np.random.default_rng(0).integers(0, 17, (4, 8, 8))
    together = record(pictures, np.arange(4), seed=3)
    alone = record(pictures[2:3], np.array([2]), seed=3)
    start, stop = together["offsets"][2:4]
    for name in "txyp":
        assert np.array_equal(together[name][start:stop], alone[name])


def test_same_seed_same_events_other_seed_other_noise(test_split):
    again, other = SaccadeDigits("test", cache=False), SaccadeDigits("test", seed=1, cache=False)
    assert again.fingerprint() == test_split.fingerprint() != other.fingerprint()
    assert np.array_equal(other.labels, test_split.labels)


def test_the_events_are_those_of_every_machine(test_split):
    """Recorded once; integers throughout, so an other platform or library version must agree."""
    stream, label = test_split[100]
    assert (label, len(stream)) == GOLDEN[:2]
    assert (int(stream.t.sum()), int((stream.x * 34 + stream.y).sum()), int(stream.p.sum())) == GOLDEN[2:]


def test_splits_are_apart_and_complete(test_split):
    labels = np.arange(1797) % 10
    numbers = split_numbers(labels)
    assert (len(numbers["train"]), len(numbers["test"])) == (1437, 360)
    assert np.array_equal(np.sort(numbers["all"]), np.arange(1797))
    assert np.array_equal(numbers["all"], np.concatenate([numbers["train"], numbers["test"]]))
    for digit in range(10):
        last_trained = numbers["train"][labels[numbers["train"]] == digit].max()
        assert (numbers["test"][labels[numbers["test"]] == digit] > last_trained).all()


def test_a_recording_is_the_same_in_every_split(test_split):
    everything = SaccadeDigits("all", cache=False)
    assert len(everything) == 1797
    assert np.array_equal(everything.labels[1437:], test_split.labels)
    for i in (0, 200, 359):
        (one, _), (other, _) = everything[1437 + i], test_split[i]
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "txyp")


def test_the_cache_gives_the_same_set(test_split, cache_folder, monkeypatch):
    first = SaccadeDigits("test")
    assert len(list(cache_folder.iterdir())) == 1
    monkeypatch.setattr("spikekit.datasets.saccade_digits._simulate", None)
    second = SaccadeDigits("test")
    assert first.fingerprint() == second.fingerprint() == test_split.fingerprint()
    with pytest.raises(IndexError):
        second[360]


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_bad_seed(seed):
    with pytest.raises(InputError, match="seed must be a whole number"):
        SaccadeDigits("test", seed=seed)


def test_bad_split():
    with pytest.raises(InputError, match="split must be one of"):
        SaccadeDigits("valid")
