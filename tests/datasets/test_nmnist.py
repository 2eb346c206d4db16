"""N-MNIST: a partial copy works, a damaged file is named, and the real set is what it should be."""

from __future__ import annotations

import os

import numpy as np
import pytest

from spikekit.datasets import NMNIST
from spikekit.errors import EventError, InputError

REAL = bool(os.environ.get("SPIKEKIT_DATA")) and NMNIST.available()


def test_a_partial_copy_is_read_in_the_order_of_the_file_numbers(partial_nmnist):
    train = NMNIST("train", root=partial_nmnist)
    assert len(train) == 6
    assert train.labels.tolist() == [5, 0, 4, 5, 0, 4]
    assert train.labels.dtype == np.int64
    assert [path.name for path in train.files] == [f"{n:05d}.bin" for n in range(1, 7)]
    stream, label = train[-1]
    assert (label, len(stream), stream.sensor) == (4, 200, (34, 34))
    assert stream.source.endswith("00006.bin")
    assert len([label for _, label in train]) == 6
    with pytest.raises(IndexError, match="index 6 is out of range for 6"):
        train[6]


def test_events_are_those_of_the_file(partial_nmnist):
    stream, label = NMNIST("test", root=partial_nmnist)[0]
    assert label == 7
    assert stream.t.tolist() == [0, 70_000, 300_000]
    assert stream.x.tolist() == [0, 33, 5]
    assert stream.y.tolist() == [33, 0, 6]
    assert stream.p.tolist() == [1, 0, 1]


def test_all_is_train_then_test(partial_nmnist):
    assert NMNIST("all", root=partial_nmnist).labels.tolist() == [5, 0, 4, 5, 0, 4, 7]


def test_the_data_home_is_used(partial_nmnist, monkeypatch):
    monkeypatch.setenv("SPIKEKIT_DATA", str(partial_nmnist))
    assert NMNIST.available()
    assert len(NMNIST("train")) == 6


def test_missing_data_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEKIT_DATA", str(tmp_path / "none"))
    assert not NMNIST.available()
    with pytest.raises(InputError) as caught:
        NMNIST("train")
    text = str(caught.value)
    for part in (
        str(tmp_path / "none" / "NMNIST" / "Train"),
        "SPIKEKIT_DATA",
        "download=True",
        "SaccadeDigits",
    ):
        assert part in text


def test_available_needs_both_splits(partial_nmnist):
    (partial_nmnist / "NMNIST/Test/7/00001.bin").unlink()
    assert not NMNIST.available(partial_nmnist)
    assert len(NMNIST("train", root=partial_nmnist)) == 6
    with pytest.raises(InputError, match="NMNIST/Test"):
        NMNIST("all", root=partial_nmnist)


def test_bad_split(partial_nmnist):
    with pytest.raises(InputError, match="split must be one of train, test, all; got 'val'"):
        NMNIST("val", root=partial_nmnist)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda good: good[:-2], "truncated: 998 bytes is not a multiple of 5"),
        (lambda good: b"", "is empty"),
        (lambda good: b"\n<!DOCTYPE html><html>Too many requests</html>", "web page"),
        (lambda good: b"<html><body>404</body></html>", "web page"),
        (lambda good: good[:10] + bytes([40, 1, 0, 0, 0]), r"x\[2\] = 40 is outside the sensor"),
        (lambda good: good + good, "not sorted"),
        (lambda good: good + bytes([0, 240, 127, 255, 255]), "1 events are in row 240"),
    ],
)
def test_a_damaged_file_is_named(partial_nmnist, damage, message):
    path = partial_nmnist / "NMNIST/Train/5/00001.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EventError, match=f"(?s)00001.bin.*{message}"):
        NMNIST("train", root=partial_nmnist)[0]


def test_the_fingerprint_follows_content_and_names_only(partial_nmnist):
    def fingerprint():
        return NMNIST("train", root=partial_nmnist).fingerprint()

    first = fingerprint()
    path = partial_nmnist / "NMNIST/Train/5/00001.bin"
    os.utime(path, (1, 1))
    assert fingerprint() == first
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    changed = fingerprint()
    assert changed != first
    path.rename(path.with_name("00009.bin"))
    assert fingerprint() not in (first, changed)


@pytest.mark.skipif(not REAL, reason="needs N-MNIST under SPIKEKIT_DATA")
def test_real_recordings():
    test = NMNIST("test")
    assert set(test.labels.tolist()) == set(range(10))
    for i in range(0, min(len(test), 200), 5):
        stream, _ = test[i]
        assert len(stream) == test.files[i].stat().st_size // 5
        assert 500 < len(stream) < 15_000
        assert 250_000 < stream.duration < 400_000
        assert 0.2 < stream.p.mean() < 0.8
    # MNIST's first test digits: the order of the file numbers is MNIST's.
    if [path.stem for path in test.files[:5]] == [f"{n:05d}" for n in range(1, 6)]:
        assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
