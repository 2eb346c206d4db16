from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from spikekit.errors import InputError
from spikekit.train.seeding import borrowed_rng, capture_rng, restore_rng, seed_all, seed_loader

CPU = torch.device("cpu")


def draw() -> list[float]:
    # The normal ones have a spare value inside the generator, which has to be stored too.
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]


def test_a_seed_fixes_every_generator_and_streams_differ():
    draws = []
    for stream in [(3,), (3,), (4,), (3, 0), (3, 1), (3, 0, 0), (3, 0, 1)]:
        seed_all(*stream)
        draws.append(draw())
    assert draws[0] == draws[1]
    for i, first in enumerate(draws[1:], start=1):
        for second in draws[i + 1 :]:
            assert all(a != b for a, b in zip(first, second, strict=True))


def test_capture_and_restore():
    seed_all(0)
    draw()
    state = capture_rng(CPU)
    expected = [draw(), draw()]
    seed_all(5)
    restore_rng(state, CPU)
    assert [draw(), draw()] == expected
    assert state.dtype == torch.uint8
    assert len(state) == len(capture_rng(CPU))


def test_borrowed_rng_leaves_no_trace():
    loader = torch.utils.data.DataLoader([1, 2, 3], shuffle=True, generator=torch.Generator())
    seed_all(1)
    expected, order = draw(), [b.item() for b in loader]
    seed_all(1)
    loader.generator.manual_seed(torch.Generator().initial_seed())
    with borrowed_rng(loader, CPU):
        seed_loader(loader, 9)
        draw()
    assert draw() == expected
    assert [b.item() for b in loader] == order


def test_negative_seeds_are_refused():
    with pytest.raises(InputError, match=">= 0"):
        seed_all(-1)
