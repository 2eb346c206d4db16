"""What every test gets: a fixed seed, repeatable Hypothesis examples, and memory that is never zero by luck."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from spikekit.export.lava import worker_python
from spikekit.export.lava.install import install
from spikekit.native import memory

settings.register_profile(
    "spikekit",
    derandomize=True,
    deadline=None,
    max_examples=25,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("spikekit")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def poison(monkeypatch):
    """Fill uninitialised memory with NaN, so that a kernel that reads before it writes cannot pass."""

    def poisoned(make):
        def fill(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return fill

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))

    take = memory.Store.take

    def poisoned_take(store, size):
        array = take(store, size)
        # All bits set are NaN in every floating type.
        array.fill(255)
        return array

    monkeypatch.setattr(memory.Store, "take", poisoned_take)


@pytest.fixture(scope="session")
def worker() -> Path:
    """An interpreter with Lava, installed on first use; only SPIKEKIT_NO_LAVA=1 goes without."""
    if os.environ.get("SPIKEKIT_NO_LAVA") == "1":
        pytest.skip("SPIKEKIT_NO_LAVA=1: the tests that run Lava itself are switched off")
    return worker_python() or install()
