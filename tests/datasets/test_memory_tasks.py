from __future__ import annotations

import pytest
import torch

from spikekit.datasets import MemoryTask
from spikekit.datasets.memory_tasks import IGNORE
from spikekit.errors import InputError


def drawn(task, size=50, seed=0):
    return task.batch(size, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gap", [0, 7])
def test_delayed_recall(gap):
    task = MemoryTask("delayed-recall", gap, symbols=5, noise=3)
    x, y = drawn(task)
    assert x.shape == y.shape == (task.steps, 50) == (gap + 2, 50)
    assert torch.equal(y[-1], x[0])
    assert (y[:-1] == IGNORE).all()
    assert set(x[0].tolist()) == set(range(5))
    assert (x[-1] == task.vocabulary - 1).all()
    if gap:
        assert set(x[1:-1].unique().tolist()) == {5, 6, 7}


def test_copy():
    task = MemoryTask("copy", 9, symbols=4, items=3)
    x, y = drawn(task)
    assert torch.equal(y[-3:], x[:3])
    assert (x[3:-3] == 4).all()
    assert len(x) == task.steps == 15


def test_selective_copy_keeps_the_order_and_scatters():
    task = MemoryTask("selective-copy", 20, symbols=4, items=3)
    x, y = drawn(task)
    body, places = x[:-3], (x[:-3] != 4).nonzero()
    assert torch.equal(torch.bincount(places[:, 1]), torch.full((50,), 3))
    for sample in range(50):
        assert torch.equal(body[:, sample][body[:, sample] != 4], y[-3:, sample])
    assert len(places[:, 0].unique()) == 23


def test_batches_are_those_of_the_seed():
    task = MemoryTask("selective-copy", 20, items=2)
    assert torch.equal(drawn(task)[0], drawn(task)[0])
    assert not torch.equal(drawn(task)[0], drawn(task, seed=1)[0])
    assert "synthetic" in task.name


def test_mistakes_are_named():
    for values, message in (
        ({"kind": "recall"}, "unknown kind 'recall'"),
        ({"gap": -1}, "gap must be a whole number, 0 or more"),
        ({"symbols": 1}, "symbols must be a whole number, 2 or more"),
        ({"items": 2}, "use copy"),
    ):
        with pytest.raises(InputError, match=message):
            MemoryTask(**{"kind": "delayed-recall", "gap": 3} | values)
