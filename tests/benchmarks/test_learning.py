"""Peak and time of the learning rules: the command runs, and a peak is that of the step."""

from __future__ import annotations

import pytest
import torch

from benchmarks import learning
from benchmarks.footprint import Peak


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_quick_run_prints_every_rule(capsys, monkeypatch):
    monkeypatch.setattr(learning, "peak_apart", learning.peak)
    learning.main(["--quick", "--steps", "3", "5"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in rows if row] == [
        (steps, rule) for steps in ("3", "5") for rule in learning.RULES
    ]


@pytest.mark.skipif(not Peak.available(), reason="the system does not tell the peak")
def test_backpropagation_needs_more_for_more_steps():
    short, long = (learning.peak("BPTT", steps, 16, 256) for steps in (8, 128))
    assert long > 2 * short
    assert learning.peak("OTTT", 128, 16, 256) < long / 2
