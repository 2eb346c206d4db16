"""Memory of a training step of EMS-Res10 against T: as it is, with checkpointed blocks, and in pieces of time.

python -m benchmarks.ems_memory -> a table, and the growth from each T to twice as much

Kept: what autograd holds between the passes, each storage once, parameters and input aside. Peak: of a process of its
own in its second step, on Linux alone. Time: CPU time of the step over that of the network as it is. Gradient: of all
parameters, its distance from that of the network as it is, relative.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spikekit as sk
from benchmarks.ems_speed import Size, data, network
from benchmarks.footprint import MIB, Peak, kept_for_backward
from benchmarks.measure import Timing, alternate
from benchmarks.table import NOTHING, grid
from spikekit.detect import DetectionLoss, Grid
from spikekit.models import checkpoint_blocks

ROOT = Path(__file__).resolve().parent.parent
WHOLE = "as it is"
WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    WHOLE: lambda net: net,
    "checkpoint_blocks": checkpoint_blocks,
    "checkpoint_time": sk.checkpoint_time,
}


class Step:
    """One training step, without an optimiser."""

    def __init__(self, way: str, size: Size) -> None:
        bare = network(size)
        self.loss = DetectionLoss(Grid.of(bare, (size.side, size.side)))
        self.net = WAYS[way](bare)
        self.x, self.boxes = data(size)

    def forward(self) -> Tensor:
        return self.loss(self.net(self.x), self.boxes)

    def __call__(self) -> Tensor:
        """All gradients, as one vector."""
        found = torch.autograd.grad(self.forward(), list(self.net.parameters()))
        return torch.cat([gradient.flatten() for gradient in found])

    def kept(self) -> int:
        return kept_for_backward(self.forward, (self.x, *self.net.parameters()))


def peak(way: str, size: Size) -> int | None:
    """Bytes of the second step; None where the system does not tell."""
    step = Step(way, size)
    step()
    if not Peak.available():
        return None
    found = Peak()
    found.start()
    step()
    return found.bytes()


def peak_apart(way: str, size: Size) -> int | None:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ems_memory", "--cell", json.dumps([way, vars(size)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ, cwd=ROOT)
    found: int | None = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(size: Size, repeats: int) -> dict[str, dict[str, Any]]:
    """All ways at one size."""
    steps = {way: Step(way, size) for way in WAYS}
    gradients = {way: step() for way, step in steps.items()}
    times = alternate(steps, repeats, 30.0)
    found = {}
    for way, step in steps.items():
        took, whole = times[way], times[WHOLE]
        if not isinstance(took, Timing) or not isinstance(whole, Timing):
            raise RuntimeError(f"{way}: {took}")
        off = (gradients[way] - gradients[WHOLE]).norm() / gradients[WHOLE].norm()
        found[way] = {
            "steps": size.steps,
            "kept": step.kept(),
            "peak": peak_apart(way, size),
            "time": took.cpu / whole.cpu,
            "gradient": float(off),
        }
    return found


def table(found: Sequence[dict[str, dict[str, Any]]]) -> str:
    rows = []
    for ways in found:
        for way, cell in ways.items():
            peaked = NOTHING if cell["peak"] is None else f"{cell['peak'] / MIB:.0f}"
            rows.append(
                [
                    str(cell["steps"]),
                    way,
                    f"{cell['kept'] / MIB:.1f}",
                    peaked,
                    f"{cell['time']:.2f}",
                    f"{cell['gradient']:.0e}",
                ]
            )
    lines = grid(["T", "", "kept, MiB", "peak, MiB", "time", "gradient off by"], rows)
    grows = [b[WHOLE]["kept"] / a[WHOLE]["kept"] / (b[WHOLE]["steps"] / a[WHOLE]["steps"]) for a, b in pairwise(found)]
    if grows:
        lines.append(f"Kept, {WHOLE}, grows by at most {max(grows):.3f} times as much as T.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser("python -m benchmarks.ems_memory", description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="T")
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--width", type=float, default=0.25)
    options.add_argument("--side", type=int, default=128)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    asked = options.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.cell is not None:
        way, size = asked.cell
        print(json.dumps(peak(way, Size(**size))))
        return
    sizes = [Size(steps, asked.batch, asked.side, asked.width) for steps in asked.steps]
    print(table([measure(size, asked.repeats) for size in sizes]))


if __name__ == "__main__":
    main()
