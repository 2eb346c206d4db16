"""What HLOP costs: a training step of the PMNIST network, 784-800-800-10, beside the same step without it.

    OMP_NUM_THREADS=1 python -m benchmarks.continual_cost

A step is forward, backward, projection, learning of the lateral units and SGD, on real MNIST, batch 64, T = 6
(DSR: 20). All contenders in turn in one process, CPU time, medians; in the midst of tasks 1, 2, 5 and 10 of the
authors' schedule. `hlop-fast` learns its units from 64 inputs of half of the batches.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.continual_runs import RULES, Run, method, network, protocol, rule
from benchmarks.table import grid
from spikekit import continual as cl

TASKS = (1, 2, 5, 10)
CONTENDERS = ("plain", "hlop, gradients projected", "hlop", "hlop-fast", "gpm")


@functools.cache
def trained(rule_name: str) -> dict[str, torch.Tensor]:
    """The network after 50 batches of plain training: its neurons fire as they do in the midst of a task."""
    run = Run("pmnist", "plain", rule_name, 0, 3200)
    net = network(run)
    optimizer, trainer = torch.optim.SGD(net.parameters(), lr=0.1), rule(run)
    for batch in protocol(run).tasks[0].train.batches(64):
        optimizer.zero_grad()
        trainer(net, batch.x, batch.loss, update=optimizer.step)
    return net.state_dict()


def stepper(name: str, rule_name: str, to_task: int) -> Callable[[], object]:
    """A function that does one step in task `to_task`."""
    run = Run("pmnist", name.partition(",")[0], rule_name, 0, 3200)
    net = network(run)
    net.load_state_dict(trained(rule_name))
    way = method(run, net)
    batches = list(protocol(run).tasks[0].train.batches(64))
    for task in range(1, to_task + 1):
        way.begin_task()
        if task < to_task:
            # Units that were given nothing would not be kept.
            way.step(batches[0].x, batches[0].loss, torch.optim.SGD(way.parameters(), lr=1e-9), rule(run))
            way.end_task(batches)
    if isinstance(way, cl.HLOP) and "," in name:
        way.project = "gradient"
    optimizer, trainer, place = torch.optim.SGD(way.parameters(), lr=0.1), rule(run), [0]

    def step() -> None:
        batch = batches[place[0] % len(batches)]
        place[0] += 1
        way.step(batch.x, batch.loss, optimizer, trainer)

    return step


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians of the CPU time of a step, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 3):
        for name, step in contenders.items():
            began = time.process_time()
            step()
            if turn >= 3:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main(rounds: int = 31) -> None:
    torch.set_num_threads(1)
    rows = []
    for rule_name in RULES:
        for task in TASKS:
            times = measure({name: stepper(name, rule_name, task) for name in CONTENDERS}, rounds)
            base = times["plain"]
            cells = [f"{100 * (times[name] / base - 1):+.0f} %" for name in CONTENDERS[1:]]
            rows.append([rule_name, str(task), f"{1e3 * base:.1f}", *cells])
            print(rows[-1], flush=True)
    page = "\n".join(
        [
            "# HLOP: CPU time of a step, over plain training",
            "",
            *grid(["rule", "task", "plain, ms", *CONTENDERS[1:]], rows),
        ]
    )
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "continual-cost.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
