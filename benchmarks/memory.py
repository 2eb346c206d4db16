"""Memory of a training step: what is kept for the backward pass, and the peak; a LIF layer, the MLP, long sequences.

Each figure comes from a process of its own. Kept: the storages that autograd saves, each counted once, without
parameters and input frames. Peak: the most that the process holds during its second step, beyond what it holds before
it, after all that is free was given back to the system.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spikekit as sk
from benchmarks.contenders import LAYERS, NETWORKS, OURS, Contender
from benchmarks.footprint import MIB, Peak, kept_for_backward
from benchmarks.lif import drive, native, native_weight
from benchmarks.networks import Network, build
from benchmarks.options import begin, finish, parser
from benchmarks.plot import bars
from benchmarks.table import NOTHING, count, grid
from benchmarks.workloads import mlp

ROOT = Path(__file__).resolve().parent.parent
KEPT, PEAK = "kept for backward", "peak of a step"
CHECKPOINTED = "checkpoint_time"


@dataclass(frozen=True)
class Task:
    """One figure. kind: "lif" or "mlp"; size: neurons of a step for the one, samples for the other."""

    kind: str
    contender: str
    steps: int
    size: int
    checkpoint: bool = False


Step = tuple[Callable[[], Tensor], Callable[[Tensor], object], Iterable[Tensor], int]


def _lif(contender: Contender, steps: int, neurons: int) -> Step:
    layer = contender.layer()
    x = native(contender, drive(steps, neurons)).clone().requires_grad_()
    weight = native_weight(contender, torch.randn(steps, *drive(1, neurons).shape[1:]))
    return lambda: layer(x), lambda out: torch.autograd.grad(out, x, weight), (), x.numel()


def _mlp(contender: Contender, steps: int, batch: int, checkpoint: bool) -> Step:
    workload = mlp(steps, batch)
    network = build(contender, workload)
    if checkpoint:
        if not isinstance(network.run, torch.nn.Module):
            raise TypeError(f"{contender.name} is no module that checkpoint_time could take")
        network = Network(contender, sk.checkpoint_time(network.run), network.stages)
    x, parameters = network.lay_out(workload.x), network.parameters()
    return (
        lambda: network.loss(x, workload.labels),
        lambda loss: torch.autograd.grad(loss, parameters),
        (x, *parameters),
        steps * workload.neurons(),
    )


def _step(task: Task) -> Step:
    roster = LAYERS if task.kind == "lif" else NETWORKS
    contender = next(c for c in roster if c.name == task.contender)
    if task.kind == "lif":
        return _lif(contender, task.steps, task.size)
    return _mlp(contender, task.steps, task.size, task.checkpoint)


def measure(task: Task) -> dict[str, Any]:
    """Bytes kept, bytes of the peak (None where the system does not tell), neurons times steps. Raises ImportError."""
    forward, backward, besides, elements = _step(task)
    # What is loaded once, code for the most part, is not what a step needs.
    backward(forward())
    peak = Peak() if Peak.available() else None
    if peak is not None:
        peak.start()
    backward(forward())
    highest = None if peak is None else peak.bytes()
    return {"kept": kept_for_backward(forward, besides), "peak": highest, "elements": elements}


def measure_apart(task: Task) -> dict[str, Any]:
    """The same in a process of its own; what went wrong there under "absent"."""
    command = [sys.executable, "-m", "benchmarks.memory", "--task", json.dumps(asdict(task))]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["died"])[-1]
        return {"absent": "not installed" if last.startswith("ModuleNotFoundError") else last[:160]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cells(label: str, found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What is kept and the peak of all contenders, in MiB."""
    made = []
    for mode, key in ((KEPT, "kept"), (PEAK, "peak")):
        results = {n: f[key] / MIB for n, f in found.items() if f.get(key) is not None}
        made.append({"label": label, "mode": mode, "results": results})
    return made


def per_element(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Bytes per neuron and step, of each task and contender."""
    rows = [
        [
            label,
            name,
            f"{f['kept'] / f['elements']:.2f}",
            NOTHING if f["peak"] is None else f"{f['peak'] / f['elements']:.1f}",
        ]
        for label, contenders in found.items()
        for name, f in contenders.items()
        if "kept" in f
    ]
    return ["### Bytes per neuron and step", "", *grid(["", "", KEPT, PEAK], rows)]


def long_sequences(steps: Sequence[int], batch: int) -> list[dict[str, Any]]:
    """The MLP as it is and under checkpoint_time, for each T."""
    found = []
    for t in steps:
        whole, pieces = (measure_apart(Task("mlp", OURS.name, t, batch, checkpoint)) for checkpoint in (False, True))
        saving = {
            key: 1 - pieces[key] / whole[key] if whole.get(key) and pieces.get(key) is not None else None
            for key in ("kept", "peak")
        }
        found.append({"steps": t, "batch": batch, "whole": whole, CHECKPOINTED: pieces, "saving": saving})
    return found


def long_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """What checkpoint_time saves, as a table."""
    rows = []
    for line in found:
        cells = [f"T={line['steps']} B={line['batch']}"]
        for key in ("kept", "peak"):
            for what in ("whole", CHECKPOINTED):
                number = line[what].get(key)
                cells.append(NOTHING if number is None else f"{number / MIB:.3g} MiB")
            saving = line["saving"][key]
            cells.append(NOTHING if saving is None else f"{saving:.0%}")
        rows.append(cells)
    head = ["", KEPT, f"with {CHECKPOINTED}", "saved", PEAK, f"with {CHECKPOINTED}", "saved"]
    return ["### checkpoint_time, MLP", "", *grid(head, rows)]


def run(lif: tuple[int, int], network: tuple[int, int], long: Sequence[int], long_batch: int) -> dict[str, Any]:
    """The whole report. lif: T and neurons; network: T and samples; long: each T of the long sequences."""
    tasks = {
        f"LIF T={lif[0]} M={count(lif[1])}": ("lif", LAYERS, *lif),
        f"MLP T={network[0]} B={network[1]}": ("mlp", [c for c in NETWORKS if c.pieces is None], *network),
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    absent: dict[str, str] = {}
    for label, (kind, contenders, steps, size) in tasks.items():
        found[label] = {c.name: measure_apart(Task(kind, c.name, steps, size)) for c in contenders}
        absent |= {name: f["absent"] for name, f in found[label].items() if "absent" in f}
    sequences = long_sequences(long, long_batch)
    return {
        "contenders": [
            {"name": c.name, "against": c.against, "note": c.note, "check": None, "absent": absent.get(c.name)}
            for c in NETWORKS
            if c.pieces is None
        ],
        "unit": "MiB",
        "title": "Memory of a training step",
        "what": "MiB; 2.0x: twice as much as spikekit. Spikes are compared where times are measured: lif and mlp.",
        "cells": [cell for label in found for cell in cells(label, found[label])],
        "raw": found,
        "long": sequences,
        "remarks": per_element(found) + long_table(sequences),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("memory", __doc__)
    options.add_argument("--steps", type=int, nargs="+", metavar="T", help="of the long sequences: 100 400 1600")
    options.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    asked = options.parse_args(arguments)
    if asked.task is not None:
        print(json.dumps(measure(Task(**asked.task))))
        return
    report = begin(asked, "memory")
    if asked.quick:
        report |= run((16, 1 << 12), (16, 4), asked.steps or (16,), 2)
    else:
        report |= run((100, 1 << 16), (100, 64), asked.steps or (100, 400, 1600), 16)
    finish(asked, report, bars)


if __name__ == "__main__":
    main()
