"""Timing that survives a loaded machine: contenders alternate in random order and the median of each is kept."""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

import torch

import spikekit

PEERS = ("snntorch", "spikingjelly", "norse", "sinabs")


@dataclass(frozen=True)
class Timing:
    """Median CPU seconds of the process and median wall seconds of one call, over `repeats` calls."""

    cpu: float
    wall: float
    repeats: int


def _one(call: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def alternate(
    calls: Mapping[str, Callable[[], object]], repeats: int, budget: float, seed: int = 0
) -> dict[str, Timing | str]:
    """Run each call `repeats` times, in an order drawn anew each round, after one call of each to warm up.

    budget: CPU seconds that one contender may take; a slow one gets fewer repeats, and where even its first call
    is over the budget that call is its result. A call that raises is reported as the text of its error.
    """
    order = random.Random(seed)
    seconds: dict[str, list[tuple[float, float]]] = {}
    results: dict[str, Timing | str] = {}
    left: dict[str, int] = {}
    for name, call in calls.items():
        try:
            first = _one(call)
        except Exception as error:
            results[name] = one_line(error)
            continue
        left[name] = min(repeats, int(budget / max(first[0], 1e-9)))
        seconds[name] = [] if left[name] else [first]
    for _ in range(repeats):
        for name in order.sample(sorted(seconds), len(seconds)):
            if left[name] > 0:
                left[name] -= 1
                seconds[name].append(_one(calls[name]))
    for name, pairs in seconds.items():
        cpu, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
        results[name] = Timing(cpu, wall, len(pairs))
    return results


def one_line(error: Exception) -> str:
    """The error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> dict[str, object]:
    """What the numbers depend on: processor, threads, load, versions."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "spikekit": spikekit.__version__}
    for name in PEERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }
