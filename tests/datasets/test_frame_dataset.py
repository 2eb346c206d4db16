"""FrameDataset: the right frames, batches and subsets, and a cache that can be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from spikekit.datasets import NMNIST, FrameDataset, frames
from spikekit.errors import EventError, InputError
from spikekit.events import EventStream, collate_time_first, frames_by_count, frames_by_time


class Source:
    """Twelve small recordings of a sensor that is not square."""

    name = "Small"
    sensor = (5, 3)

    def __init__(self, n=12, crowd=1, sensor=(5, 3)):
        rng = np.random.default_rng(n)
        self.labels = np.arange(n, dtype=np.int64) % 3
        self.streams = [
            EventStream.checked(
                np.sort(rng.integers(0, 1000, 30 * crowd)),
                rng.integers(0, 5, 30) if crowd == 1 else np.zeros(30 * crowd, np.int64),
                rng.integers(0, 3, 30) if crowd == 1 else np.zeros(30 * crowd, np.int64),
                rng.integers(0, 2, 30 * crowd),
                sensor,
                source=f"small {i}",
            )
            for i in range(n)
        ]

    def __len__(self):
        return len(self.streams)

    def __getitem__(self, index):
        return self.streams[index], int(self.labels[index])

    def fingerprint(self):
        return f"small {len(self)}"


@pytest.mark.parametrize(("by", "make"), [("time", frames_by_time), ("count", frames_by_count)])
@pytest.mark.parametrize("binary", [True, False])
def test_frames_are_those_of_the_recordings(by, make, binary):
    source = Source()
    dataset = FrameDataset(source, n_bins=4, binary=binary, by=by)
    assert dataset.frames.shape == (12, 4, 2, 3, 5)
    assert dataset.frames.dtype == torch.uint8
    assert dataset.labels.dtype == torch.int64
    for i, (frame, label) in enumerate(dataset):
        assert frame.dtype == torch.float32
        assert label == source.labels[i]
        assert np.array_equal(frame.numpy(), make(source.streams[i], 4, binary=binary))
    assert len(dataset) == 12
    with pytest.raises(IndexError):
        dataset[12]


def test_the_loader_puts_time_first():
    dataset = FrameDataset(Source(), n_bins=4)
    batches = list(dataset.loader(5))
    assert [tuple(x.shape) for x, _ in batches] == [(4, 5, 2, 3, 5), (4, 5, 2, 3, 5), (4, 2, 2, 3, 5)]
    x, y = batches[1]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert torch.equal(x[:, 2], dataset[7][0])
    assert torch.equal(torch.cat([y for _, y in batches]), dataset.labels)
    assert len(dataset.loader(5, drop_last=True)) == 2


def test_the_seed_alone_decides_the_order():
    dataset = FrameDataset(Source(), n_bins=4)

    def epochs(seed):
        loader = dataset.loader(5, shuffle=True, seed=seed)
        return [torch.cat([x for x, _ in loader], dim=1) for _ in range(2)]

    first = epochs(1)
    torch.manual_seed(99)
    again, other = epochs(1), epochs(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_a_subset_works():
    dataset = FrameDataset(Source(), n_bins=4)
    [(x, y)] = DataLoader(Subset(dataset, [3, 0, 7]), batch_size=3, collate_fn=collate_time_first)
    assert x.shape == (4, 3, 2, 3, 5)
    assert y.tolist() == dataset.labels[[3, 0, 7]].tolist()
    assert torch.equal(x[:, 2], dataset[7][0])
    [(same, labels)] = dataset.loader(5, indices=[3, 0, 7])
    assert torch.equal(same, x)
    assert torch.equal(labels, y)
    with pytest.raises(InputError, match="leaves no batch of 3 recordings"):
        dataset.loader(5, indices=[3, 0, 7], drop_last=True)


def test_counts_above_a_byte_are_refused_not_wrapped():
    with pytest.raises(EventError, match=r"small 0: \d+ events in one pixel .* more than 1 bins, or binary=True"):
        FrameDataset(Source(n=2, crowd=20), n_bins=1, binary=False)
    assert FrameDataset(Source(n=2, crowd=20), n_bins=1).frames.max() == 1


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (Source(), {"by": "events"}, "by must be 'time' or 'count', got 'events'"),
        (Source(), {"n_bins": 0}, "n_bins must be a whole number, 1 or more; got 0"),
        (Source(), {"n_bins": 2.5}, "got 2.5"),
        (Source(n=0), {}, "Small has no recordings"),
    ],
)
def test_bad_settings(source, options, message):
    with pytest.raises(InputError, match=message):
        FrameDataset(source, **options)


def test_a_recording_of_another_sensor_is_named():
    with pytest.raises(EventError, match=r"small 0: sensor \(6, 3\), but Small has \(5, 3\)"):
        FrameDataset(Source(sensor=(6, 3)))


def test_drop_last_must_leave_a_batch():
    with pytest.raises(InputError, match="drop_last with batch_size 13 leaves no batch of 12"):
        FrameDataset(Source()).loader(13, drop_last=True)


def test_the_second_time_nothing_is_read_from_the_recordings(partial_nmnist, cache_folder, monkeypatch):
    first = FrameDataset(NMNIST("train", root=partial_nmnist))
    assert first.frames.shape == (6, 10, 2, 34, 34)
    [file] = cache_folder.iterdir()
    before = file.read_bytes()
    monkeypatch.setattr(frames, "_build", None)
    second = FrameDataset(NMNIST("train", root=partial_nmnist))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.labels, second.labels)
    assert file.read_bytes() == before


@pytest.mark.parametrize("change", [{"n_bins": 5}, {"binary": False}, {"by": "count"}])
def test_each_setting_has_its_own_file(cache_folder, change):
    FrameDataset(Source())
    FrameDataset(Source(), **change)
    assert len(list(cache_folder.iterdir())) == 2


def test_changed_recordings_are_not_served_from_the_cache(partial_nmnist, write_bin):
    FrameDataset(NMNIST("test", root=partial_nmnist), n_bins=1)
    write_bin(partial_nmnist / "NMNIST/Test/7/00001.bin", [1, 2, 3], [8, 8, 8], [1, 1, 1], [0, 0, 0])
    changed = FrameDataset(NMNIST("test", root=partial_nmnist), n_bins=1)
    assert torch.nonzero(changed.frames).tolist() == [[0, 0, 0, 1, 8]]


def test_without_a_cache_nothing_is_written(cache_folder):
    FrameDataset(Source(), cache=False)
    assert not cache_folder.exists()
