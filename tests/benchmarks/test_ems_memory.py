"""Memory against T: the command runs, and the figures are those that the page quotes."""

from __future__ import annotations

import pytest
import torch

from benchmarks import ems_memory
from benchmarks.ems_speed import Size


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_row_a_way(capsys, monkeypatch):
    monkeypatch.setattr(ems_memory, "peak_apart", lambda way, size: None)
    ems_memory.main(["--steps", "1", "3", "--batch", "1", "--side", "64", "--width", "0.0625", "--repeats", "1"])
    text = capsys.readouterr().out
    rows = [row.split("|")[1:3] for row in text.splitlines()[2:] if row.startswith("|")]
    assert [(steps.strip(), way.strip()) for steps, way in rows] == [
        (steps, way) for steps in "13" for way in ems_memory.WAYS
    ]
    assert "times as much as T" in text


def test_memory_grows_at_most_linearly_and_is_cut():
    kept = {steps: ems_memory.Step(ems_memory.WHOLE, Size(steps, 1, 64, 1 / 16)).kept() for steps in (2, 8)}
    assert kept[8] <= 4.05 * kept[2]
    blocks = ems_memory.Step("checkpoint_blocks", Size(8, 1, 64, 1 / 16))
    assert blocks.kept() < kept[8] / 2


def test_the_peak_is_that_of_the_step():
    found = ems_memory.peak(ems_memory.WHOLE, Size(2, 1, 64, 1 / 16))
    assert found is None or found >= 0
