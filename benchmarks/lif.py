"""One LIF layer, forward and backward, side by side with the peers: `python -m benchmarks.lif [--quick] [--json FILE]`.

All contenders run in one process and alternate in random order. The number is the median CPU time of the process,
which other jobs on the machine disturb least, at one thread unless asked otherwise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import OURS, OURS_ATTACHED, PEERS, Contender, Layer
from benchmarks.measure import Timing, alternate, keep_freed_memory, machine
from benchmarks.table import show

BATCH = 32
MODES = ("training", "inference")


def drive(steps: int, neurons: int, seed: int = 0) -> Tensor:
    """A drive [T, B, N] under which a tenth or so of the neurons fire each step; `neurons` is B·N."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, BATCH, max(1, neurons // BATCH))
    return torch.randn(shape, generator=generator).mul_(0.5).add_(0.15)


def _native(contender: Contender, x: Tensor) -> Tensor:
    """A drive in the layout and scale of the contender, its own leaf."""
    x = x.transpose(0, 1).contiguous() if contender.batch_first else x
    return (x * contender.gain if contender.gain != 1 else x).detach()


def agreement(contender: Contender, layer: Layer, steps: int = 16, neurons: int = 4096) -> dict[str, float]:
    """Spikes that differ from the twin's, as a fraction, and the largest relative error of the gradient.

    The gradient is compared where no spike of the neuron differs: a spike that rounding moved changes all after it.
    """
    x, weight = drive(steps, neurons, seed=1), drive(steps, neurons, seed=2)
    ours = x.clone().requires_grad_()
    spikes = contender.twin()(ours)
    (gradient,) = torch.autograd.grad(spikes, ours, weight)
    theirs = _native(contender, x).clone().requires_grad_()
    out = layer(theirs)
    (grad,) = torch.autograd.grad(out, theirs, _native_weight(contender, weight))
    if contender.batch_first:
        out, grad = out.transpose(0, 1), grad.transpose(0, 1)
    differs = out.detach() != spikes.detach()
    error = ((grad * contender.gain - gradient).abs() * ~differs.any(0)).max() / gradient.abs().max()
    return {
        "spikes_differ": differs.float().mean().item(),
        "gradient_error": error.item(),
        "rate": spikes.detach().mean().item(),
    }


def _native_weight(contender: Contender, weight: Tensor) -> Tensor:
    return weight.transpose(0, 1).contiguous() if contender.batch_first else weight


def _call(contender: Contender, layer: Layer, x: Tensor, weight: Tensor, mode: str) -> Callable[[], object]:
    """One measured call on a drive and gradient that are made beforehand."""
    if mode == "inference":

        def infer() -> None:
            with torch.no_grad():
                layer(x)

        return infer

    def train() -> None:
        torch.autograd.grad(layer(x), x, weight)

    return train


def cell(
    layers: dict[str, tuple[Contender, Layer]], steps: int, neurons: int, mode: str, repeats: int, budget: float
) -> dict[str, Timing | str]:
    """All contenders on one size."""
    x, weight = drive(steps, neurons), drive(steps, neurons, seed=2)
    inputs: dict[tuple[bool, float], tuple[Tensor, Tensor]] = {}
    calls = {}
    for name, (contender, layer) in layers.items():
        key = (contender.batch_first, contender.gain)
        if key not in inputs:
            leaf = _native(contender, x).requires_grad_(mode == "training")
            inputs[key] = (leaf, _native_weight(contender, weight))
        calls[name] = _call(contender, layer, *inputs[key], mode)
    return alternate(calls, repeats, budget)


def run(steps: Sequence[int], neurons: Sequence[int], repeats: int, budget: float) -> dict[str, Any]:
    """The whole grid: the machine, the agreement with the twins, the times, and who could not run and why."""
    layers: dict[str, tuple[Contender, Layer]] = {}
    absent: dict[str, str] = {}
    checks: dict[str, dict[str, float]] = {}
    for contender in (OURS, OURS_ATTACHED, *PEERS):
        try:
            layer = contender.build()
            checks[contender.name] = agreement(contender, layer)
        except ModuleNotFoundError as error:
            absent[contender.name] = f"not installed ({error.name})"
        except Exception as error:
            absent[contender.name] = f"{type(error).__name__}: {error}"
        else:
            layers[contender.name] = (contender, layer)
    cells = [
        {"steps": t, "neurons": m, "mode": mode, "results": cell(layers, t, m, mode, repeats, budget)}
        for mode in MODES
        for m in neurons
        for t in steps
    ]
    return {"machine": machine(), "agreement": checks, "absent": absent, "cells": cells}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lif", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller grid, about a minute")
    parser.add_argument("--steps", type=int, nargs="+", metavar="T", help="time steps, default 4 16 100")
    parser.add_argument("--neurons", type=int, nargs="+", metavar="M", help="neurons a step, batch times width")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--budget", type=float, default=20.0, help="CPU seconds a contender and size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allocator", choices=("default", "keep"), default="default", help="keep: see README.md")
    parser.add_argument("--clock", choices=("cpu", "wall"), help="default: cpu at one thread, else wall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    if asked.allocator == "keep":
        keep_freed_memory()
    report = run(
        steps=asked.steps or (4, 16, 100),
        neurons=asked.neurons or ((1 << 16,) if asked.quick else (1 << 16, 1 << 18, 1 << 20)),
        repeats=min(asked.repeats, 7) if asked.quick else asked.repeats,
        budget=min(asked.budget, 5.0) if asked.quick else asked.budget,
    )
    report["allocator"] = asked.allocator
    print(show(report, asked.clock or ("cpu" if asked.threads == 1 else "wall")))
    if asked.json:
        asked.json.write_text(json.dumps(report, default=vars, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
