"""What HLOP costs: a training step of the PMNIST network, 784-800-800-10, beside the same step without it.

    OMP_NUM_THREADS=1 python -m benchmarks.continual_cost

A step is forward, backward, projection, learning of the lateral units and SGD, on real MNIST, batch 64, T = 6. All
contenders in turn in one process, CPU time, medians; in the midst of tasks 1, 2, 5 and 10 of the authors' schedule.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.continual_runs import RULES, Run, method, network, protocol, rule
from benchmarks.table import grid
from spikekit import continual as cl

TASKS = (1, 2, 5, 10)
VARIANTS = {"all": (None, 1.0), "64": (64, 1.0), "64, half": (64, 0.5)}


def stepper(
    run: Run, to_task: int, rows: int | None, share: float = 1.0, project: str = "auto"
) -> Callable[[], object]:
    """A function that does one step in task `to_task`."""
    net = network(run)
    way = method(run, net)
    if isinstance(way, cl.HLOP):
        way = cl.HLOP(net, "pmnist", rows=rows, share=share, project=project)
    with torch.random.fork_rng():
        for task in range(1, to_task + 1):
            way.begin_task()
            if task < to_task:
                way.end_task()
    optimizer = torch.optim.SGD(way.parameters(), lr=0.1)
    batches = list(protocol(run).tasks[0].train.batches(64))
    place = [0]
    trainer = rule(run)

    def step() -> None:
        batch = batches[place[0] % len(batches)]
        place[0] += 1
        way.step(batch.x, batch.loss, optimizer, trainer)

    return step


def main(rounds: int = 25) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in RULES:
        for task in TASKS:
            contenders = {"plain": stepper(Run("pmnist", "plain", name, 0, 3200), 1, None)}
            for label, (count, share) in VARIANTS.items():
                contenders[label] = stepper(Run("pmnist", "hlop", name, 0, 3200), task, count, share)
            contenders["all, gradient"] = stepper(Run("pmnist", "hlop", name, 0, 3200), task, None, 1.0, "gradient")
            times = measure(contenders, rounds)
            base = times["plain"]
            cells = [f"{100 * (times[label] / base - 1):+.0f} %" for label in contenders if label != "plain"]
            rows.append([name, str(task), f"{1e3 * base:.1f}", *cells])
            print(rows[-1], flush=True)
    head = [
        "rule",
        "task",
        "plain, ms",
        "all rows",
        "64 rows",
        "64 rows, half of the calls",
        "all rows, gradients projected",
    ]
    page = "\n".join(["# HLOP: CPU time of a step, over plain training", "", *grid(head, rows)])
    (Path(__file__).parent / "results" / "continual-cost.md").write_text(page)
    print(page)


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 3):
        for name, step in contenders.items():
            began = time.process_time()
            step()
            if turn >= 3:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
