"""Learning rules: the peak of memory and the time of one training step against T, of BPTT, OTTT and DSR.

784-800-800-10, B = 64, LIF of beta 0.95. A peak is that of a process of its own in its second step, beyond what it held
before; on Linux alone. Times are CPU time, medians of the rules called in turn, of the gradients alone: no optimiser.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

import spikekit as sk
from benchmarks.footprint import MIB, Peak
from benchmarks.table import NOTHING, grid
from spikekit.learning import BPTT, DSR, OTTT, Rule
from spikekit.train import CrossEntropy

ROOT = Path(__file__).resolve().parent.parent
RULES: dict[str, tuple[Rule, bool]] = {
    "BPTT": (BPTT(), False),
    "BPTT, checkpoint_time": (BPTT(), True),
    "OTTT": (OTTT(), False),
    "DSR": (DSR(), False),
}


def step(name: str, steps: int, batch: int, hidden: int) -> Callable[[], object]:
    """A call that computes all gradients once, on random input."""
    torch.manual_seed(0)
    rule, checkpoint = RULES[name]
    lif = partial(sk.LIF, 0.95, 1.0, detach_reset=True)
    net: nn.Module = sk.Sequential(
        *(nn.Linear(784, hidden), lif(), nn.Linear(hidden, hidden), lif(), nn.Linear(hidden, 10)),
    )
    net = sk.checkpoint_time(net) if checkpoint else net
    x, target = (torch.rand(steps, batch, 784) < 0.2).float(), torch.arange(batch) % 10
    return lambda: rule(net, x, partial(CrossEntropy(), target=target))


def peak(name: str, steps: int, batch: int, hidden: int) -> float | None:
    """MiB of the second step; None where the system does not tell."""
    call = step(name, steps, batch, hidden)
    call()
    if not Peak.available():
        return None
    found = Peak()
    found.start()
    call()
    return found.bytes() / MIB


def peak_apart(*cell: str | int) -> float | None:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.learning", "--cell", json.dumps(cell)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ, cwd=ROOT)
    found: float | None = json.loads(done.stdout.splitlines()[-1])
    return found


def times(steps: int, batch: int, hidden: int, repeats: int) -> dict[str, float]:
    """Milliseconds of each rule."""
    calls = {name: step(name, steps, batch, hidden) for name in RULES}
    taken: dict[str, list[float]] = {name: [] for name in RULES}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                taken[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    options.add_argument("--steps", type=int, nargs="+", default=[8, 32, 128, 512], metavar="T")
    options.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    options.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    asked = options.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.cell is not None:
        print(json.dumps(peak(*asked.cell)))
        return
    batch, hidden, repeats = (4, 16, 1) if asked.quick else (64, 800, 5)
    rows = []
    for steps in asked.steps:
        took = times(steps, batch, hidden, repeats)
        for name in RULES:
            most = peak_apart(name, steps, batch, hidden)
            factor = took[name] / took["BPTT"]
            rows.append([str(steps), name, NOTHING if most is None else f"{most:.1f}", f"{factor:.2f}"])
    print("\n".join(grid(["T", "rule", "peak, MiB", "time, BPTT = 1"], rows)))


if __name__ == "__main__":
    main()
