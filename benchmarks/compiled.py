"""Our network under torch.compile(fullgraph=True) beside itself: what the first call costs, and every later one."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.contenders import OURS
from benchmarks.measure import Timing, alternate, one_line
from benchmarks.networks import Network, build
from benchmarks.table import entry, grid
from benchmarks.workloads import Workload

# Rounding of a compiled loss; more is another computation.
DIFFERENCE = 1e-4
EAGER, COMPILED = "eager", "compiled"


def compare_compiled(workload: Workload, repeats: int, budget: float, clock: str) -> tuple[dict[str, Any], list[str]]:
    """The figures for each mode and a table of them. Readouts and gradients are compared before anything is timed."""
    eager = build(OURS, workload)
    compiled = Network(OURS, torch.compile(eager.run, fullgraph=True), eager.stages)
    found: dict[str, Any] = {}
    rows = []
    for mode in ("training", "inference"):
        found[mode] = _mode(eager, compiled, workload, mode, repeats, budget)
        if isinstance(found[mode], str):
            rows.append([mode, found[mode], "", ""])
            continue
        times = found[mode]["results"]
        rows.append(
            [
                mode,
                entry(times[EAGER], None, clock, "ms"),
                entry(times[COMPILED], times[EAGER], clock, "ms", " × eager"),
                f"{found[mode]['first']:.1f} s",
            ]
        )
    head = ["", EAGER, COMPILED, "its first call, wall clock"]
    return found, ["### torch.compile(fullgraph=True) of spikekit", "", *grid(head, rows)]


def _mode(
    eager: Network, compiled: Network, workload: Workload, mode: str, repeats: int, budget: float
) -> dict[str, Any] | str:
    """First call in seconds and both times; in words, why there are none."""
    calls = {name: net.call(workload.x, workload.labels, mode) for name, net in ((EAGER, eager), (COMPILED, compiled))}
    start = time.perf_counter()
    try:
        calls[COMPILED]()
    except Exception as error:
        return one_line(error)
    first = time.perf_counter() - start
    if (off := _difference(eager, compiled, workload, mode)) > DIFFERENCE:
        return f"not timed: differs by {off:.1e}"
    results: dict[str, Timing | str] = alternate(calls, repeats, budget)
    return {"first": first, "results": results}


def _difference(eager: Network, compiled: Network, workload: Workload, mode: str) -> float:
    """The largest relative error: of the gradients in training, of the readout in inference."""
    if mode == "inference":
        with torch.no_grad():
            mine, theirs = [eager.run(workload.x)], [compiled.run(workload.x)]
    else:
        mine, theirs = (
            list(torch.autograd.grad(net.loss(workload.x, workload.labels), net.parameters()))
            for net in (eager, compiled)
        )
    return max(float((a - b).norm() / a.norm()) for a, b in zip(mine, theirs, strict=True))
