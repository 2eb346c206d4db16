"""Memory of a training step: figures of each contender, from a process of its own, and what checkpoint_time saves."""

from __future__ import annotations

import pytest

from benchmarks import memory
from benchmarks.contenders import OURS, PLAIN
from benchmarks.memory import Task, measure, measure_apart


@pytest.fixture
def in_this_process(monkeypatch):
    """A process for each figure takes seconds; the figures of the tests need none."""

    def measured(task):
        try:
            return measure(task)
        except ModuleNotFoundError:
            return {"absent": "not installed"}

    monkeypatch.setattr(memory, "measure_apart", measured)


@pytest.mark.usefixtures("in_this_process")
def test_quick_run_reports_every_number(quick):
    report, text = quick("memory", "--steps", "9", "100")
    assert {cell["label"] for cell in report["cells"]} == {"LIF T=16 M=4k", "MLP T=16 B=4"}
    assert all(cell["results"][OURS.name] >= 0 for cell in report["cells"])
    assert {c["name"] for c in report["contenders"] if c["absent"]} == {"snntorch", "spikingjelly", "norse", "sinabs"}
    short, long = (line["saving"]["kept"] for line in report["long"])
    assert 0.5 < short < long < 1
    assert "### checkpoint_time, MLP" in text


def test_kept_are_the_membranes_and_the_spikes():
    found = measure(Task("mlp", PLAIN.name, 8, 2))
    # Each hidden neuron's membrane, and its spike for the weights behind it; a little for the loss.
    assert 8.0 <= found["kept"] / found["elements"] < 8.5


@pytest.mark.slow
def test_a_process_of_its_own_says_the_same():
    task = Task("lif", OURS.name, 4, 64)
    assert measure_apart(task)["kept"] == measure(task)["kept"]
    assert "absent" in measure_apart(Task("lif", "nobody", 4, 64))
