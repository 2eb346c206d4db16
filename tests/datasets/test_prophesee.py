"""Prophesee's files, written here in their format, and one real recording."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from spikekit.datasets import DatFile, Gen1
from spikekit.datasets.prophesee import read_boxes
from spikekit.errors import EventError, InputError

SAMPLE = Path(os.environ.get("SPIKEKIT_DATA", "none")) / "event-samples" / "gen4.dat"
FIELDS = [
    *(("ts", "<u8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"), ("class_id", "u1")),
    *(("confidence", "<f4"), ("track_id", "<u4")),
]


def write_dat(path, t, x, y, p, header="% Data file containing CD events.\n% Version 2\n", kind=b"\x00\x08"):
    path.parent.mkdir(parents=True, exist_ok=True)
    t, x, y, p = (np.asarray(a, dtype=np.uint32) for a in (t, x, y, p))
    events = np.stack([t, x | y << 14 | p << 28], 1).astype("<u4")
    path.write_bytes(header.encode() + kind + events.tobytes())
    return path


def write_boxes(path, *rows):
    np.save(path, np.array(list(rows), dtype=FIELDS))


def test_events_come_back(tmp_path):
    path = write_dat(tmp_path / "a_td.dat", [0, 5, 5, 900], [0, 303, 7, 1], [239, 0, 8, 2], [0, 1, 1, 0])
    file = DatFile(path)
    assert (len(file), file.sensor) == (4, (304, 240))
    stream = file.read()
    assert stream.t.tolist() == [0, 5, 5, 900]
    assert stream.x.tolist() == [0, 303, 7, 1]
    assert stream.y.tolist() == [239, 0, 8, 2]
    assert stream.p.tolist() == [0, 1, 1, 0]
    assert file.read(5, 900).t.tolist() == [5, 5]
    assert file.read(-10, 5).t.tolist() == [0]
    assert len(file.read(901)) == 0


def test_the_header_knows_the_sensor(tmp_path):
    path = write_dat(tmp_path / "a.dat", [1], [1000], [700], [1], "% Height 720\n% Width 1280\n", b"\x0c\x08")
    assert DatFile(path).sensor == (1280, 720)
    assert DatFile(path).read().x.tolist() == [1000]
    # Without a header, and with no event, it is still a file.
    assert len(DatFile(write_dat(tmp_path / "b.dat", [], [], [], [], header="")).read()) == 0


def test_damaged_files_are_named(tmp_path):
    path = write_dat(tmp_path / "a.dat", [1, 2], [3, 3], [4, 4], [0, 1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(EventError, match=r"a\.dat is truncated: 13 bytes"):
        DatFile(path)
    path.write_bytes(b"% only\n")
    with pytest.raises(EventError, match="ends within its header"):
        DatFile(path)
    path.write_bytes(b"RIFF1234")
    with pytest.raises(EventError, match="of kind 5249"):
        DatFile(path)
    write_dat(path, [1], [500], [4], [0])
    with pytest.raises(EventError, match=r"x\[0\] = 500 is outside the sensor"):
        DatFile(path).read()
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(EventError, match=r"none\.dat: cannot be read \(No such file"):
        DatFile(tmp_path / "none.dat")
    for text in ("x", "0", "-3"):
        write_dat(path, [1], [5], [4], [0], f"% Width {text}\n")
        with pytest.raises(EventError, match=rf"a\.dat: the width in its header .* got '{text}'"):
            DatFile(path)
        assert DatFile(path, (304, 240)).sensor == (304, 240)
    with pytest.raises(EventError, match="need the fields ts"):
        read_boxes(tmp_path / "b.npy")
    with pytest.raises(EventError, match=r"not a readable \.npy"):
        read_boxes(path)


@pytest.fixture
def gen1(tmp_path):
    """One recording: a pixel that fires every millisecond for two seconds, further right each 50 ms."""
    t = np.arange(0, 2_000_000, 1000)
    write_dat(tmp_path / "Gen1/train/night/r_td.dat", t, t // 50_000, np.full(len(t), 7), t // 1000 % 2)
    write_boxes(
        tmp_path / "Gen1/train/night/r_bbox.npy",
        (100_000, 10, 10, 60, 60, 0, 1, 1),  # too early
        (1_000_000, 20, 30, 40, 50, 0, 1, 1),
        (1_000_000, 250, 200, 100, 90, 1, 1, 2),  # over the edge
        (1_000_000, 5, 5, 9, 100, 1, 1, 3),  # a side below 10
        (1_000_000, 5, 5, 12, 12, 1, 1, 3),  # a diagonal below 30
        (1_500_000, 5, 5, 12, 12, 1, 1, 3),  # the only one of its time
        (1_999_999, 0, 0, 50, 50, 0, 1, 4),
    )
    return tmp_path


def test_gen1_gives_the_window_before_each_label(gen1):
    data = Gen1("train", gen1)
    assert len(data) == 2
    frames, boxes = data[0]
    assert frames.shape == (5, 2, 256, 320)
    # 750 to 1000 ms: in each bin of 50 ms one column, further right each time; both polarities.
    for number in range(5):
        assert frames[number].nonzero().tolist() == [[0, 7, 15 + number], [1, 7, 15 + number]]
    assert boxes.tolist() == [[0, 20, 30, 60, 80], [1, 250, 200, 304, 240]]
    assert data[1][1].tolist() == [[0, 0, 0, 50, 50]]
    x, y = next(iter(data.loader(2)))
    assert x.shape == (5, 2, 2, 256, 320)
    assert y.shape == (2, 2, 5)


def test_gen1_settings(gen1):
    every = Gen1("train", gen1, window=100_000, bins=2, skip=0, least_side=0, least_diagonal=0)
    assert [len(every[i][1]) for i in range(len(every))] == [1, 4, 1, 1]
    frames, _ = every[0]
    assert frames.shape[0] == 2
    assert frames[:, 0, 7].nonzero().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "x"}, "Gen1: split must be one of"),
        ({"window": 0}, "Gen1: window must be a whole number, 1 or more, got 0"),
        ({"bins": 0}, "Gen1: bins must be a whole number, 1 or more, got 0"),
        ({"bins": 2.5}, "Gen1: bins must be a whole number, 1 or more, got 2.5"),
    ],
)
def test_wrong_gen1_settings_are_named(gen1, settings, message):
    with pytest.raises(InputError, match=message):
        Gen1(**{"split": "train", "root": gen1} | settings)


def test_gen1_that_is_not_there(tmp_path, gen1):
    with pytest.raises(InputError, match=r"no \*_td\.dat"):
        Gen1("val", gen1)
    (gen1 / "Gen1/train/night/r_bbox.npy").unlink()
    with pytest.raises(InputError, match=r"r_bbox\.npy, are not beside it"):
        Gen1("train", gen1)


@pytest.mark.skipif(not SAMPLE.is_file(), reason="no real .dat here")
def test_the_real_file_reads_as_expelliarmus_reads_it():
    wizard = pytest.importorskip("expelliarmus").Wizard(encoding="dat")
    theirs = wizard.read(str(SAMPLE))
    ours = DatFile(SAMPLE)
    assert (len(ours), ours.sensor) == (1_218_618, (1280, 720))
    stream = ours.read()
    for name in "txyp":
        assert np.array_equal(getattr(stream, name), theirs[name].astype(np.int64)), name
    window = ours.read(2_000_000, 2_250_000)
    inside = (theirs["t"] >= 2_000_000) & (theirs["t"] < 2_250_000)
    assert np.array_equal(window.x, theirs["x"][inside])
    assert torch.is_tensor(torch.from_numpy(window.t.copy()))
