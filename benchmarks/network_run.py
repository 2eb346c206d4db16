"""What mlp and conv share: check every contender on the workload, then time a training step and inference."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks.agreement import admit, roster
from benchmarks.contenders import NETWORKS
from benchmarks.measure import alternate
from benchmarks.networks import Network, build, check, floor
from benchmarks.workloads import Workload

MODES = ("training", "inference")


def network_calls(networks: dict[str, Network], workload: Workload, mode: str) -> dict[str, Callable[[], object]]:
    """The calls of all networks that have this mode; those of one layout share the frames."""
    inputs: dict[bool, Tensor] = {}
    calls = {}
    for name, network in networks.items():
        if network.contender.pieces is not None and mode == "training":
            continue
        x = inputs.setdefault(network.contender.batch_first, network.lay_out(workload.x))
        calls[name] = network.call(x, workload.labels, mode)
    return calls


def run(workload: Workload, repeats: int, budget: float, **where: Any) -> dict[str, Any]:
    """A report of one workload: a cell for each mode. where: more entries for each cell, such as the density."""
    networks, checks, absent = admit(NETWORKS, lambda c: build(c, workload), lambda n: check(n, workload))
    networks = {"floor": floor(workload), **networks}
    density = workload.x.mean().item()
    fired = [found for found in checks.values() if found.entries]
    rate = fired[0].spikes / fired[0].entries if fired else 0.0
    cells = [
        {
            "label": f"{workload.name}, {mode}",
            "mode": mode,
            "input_density": density,
            "hidden_rate": rate,
            **where,
            "results": alternate(network_calls(networks, workload, mode), repeats, budget, random.randint(0, 9)),
        }
        for mode in MODES
    ]
    return {"base": "floor", "contenders": roster(NETWORKS, checks, absent), "cells": cells}
