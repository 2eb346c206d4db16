"""A cache of its own for every test, and a writer of N-MNIST's file format."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPIKEKIT_CACHE", str(folder))
    return folder


def encode(t, x, y, p):
    """40 bits an event: x, y, then polarity in the top bit over 23 bits of microseconds, big-endian."""
    t, x, y, p = (np.asarray(a, dtype=np.int64) for a in (t, x, y, p))
    rows = [x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]
    return np.stack(rows, axis=1).astype(np.uint8).tobytes()


@pytest.fixture(scope="session")
def write_bin():
    def write(path, t, x, y, p):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(t, x, y, p))

    return write


@pytest.fixture
def partial_nmnist(tmp_path, write_bin):
    """Six recordings of three digits and one test recording, as a user's partial copy would lie."""
    rng = np.random.default_rng(0)
    for number, digit in enumerate([5, 0, 4, 5, 0, 4], start=1):
        t = np.sort(rng.integers(0, 300_000, 200))
        xy = rng.integers(0, 34, (2, 200))
        write_bin(tmp_path / f"NMNIST/Train/{digit}/{number:05d}.bin", t, *xy, rng.integers(0, 2, 200))
    write_bin(tmp_path / "NMNIST/Test/7/00001.bin", [0, 70_000, 300_000], [0, 33, 5], [33, 0, 6], [1, 0, 1])
    return tmp_path
