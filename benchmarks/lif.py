"""One LIF layer, forward and backward and in inference, beside the peers and the bandwidth of memory.

The bound is what the traffic of a layer costs at the speed of `copy_` on a buffer of the same size, measured in the
same run: a training step moves 24 bytes an element (x, spikes and membranes; their gradients), inference 8, a copy 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.agreement import Agreement, admit, on_path, roster
from benchmarks.contenders import LAYERS, Contender, Layer
from benchmarks.measure import Timing, alternate
from benchmarks.options import begin, finish, parser, timing_options
from benchmarks.plot import dots
from benchmarks.table import count

BATCH = 32
COPIES = {"training": 3, "inference": 1}
COPY = "copy_"


def drive(steps: int, neurons: int, seed: int = 0) -> Tensor:
    """A drive [T, B, N] under which a tenth or so of the neurons fire each step; `neurons` is B·N."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, BATCH, max(1, neurons // BATCH))
    return torch.randn(shape, generator=generator).mul_(0.5).add_(0.15)


def native(contender: Contender, x: Tensor) -> Tensor:
    """A drive in the layout and scale of the contender."""
    return native_weight(contender, x * contender.gain if contender.gain != 1 else x)


def native_weight(contender: Contender, weight: Tensor) -> Tensor:
    """The gradient that is sent back, in the layout of the contender."""
    return weight.transpose(0, 1).contiguous() if contender.batch_first else weight


def check(contender: Contender, layer: Layer, steps: int = 16, neurons: int = 4096) -> Agreement:
    """Spikes and gradients beside the twin's, which runs on the loop that defines it.

    The gradient is compared where no spike of the neuron differs: a spike that rounding moved changes all after it.
    """
    x, weight = drive(steps, neurons, seed=1), drive(steps, neurons, seed=2)
    ours = x.clone().requires_grad_()
    with on_path("reference"):
        spikes = contender.twin()(ours)
        (gradient,) = torch.autograd.grad(spikes, ours, weight)
    theirs = native(contender, x).clone().requires_grad_()
    out = layer(theirs)
    (grad,) = torch.autograd.grad(out, theirs, native_weight(contender, weight))
    if contender.batch_first:
        out, grad = out.transpose(0, 1), grad.transpose(0, 1)
    differs = out.detach() != spikes.detach()
    error = ((grad * contender.gain - gradient).abs() * ~differs.any(0)).max() / gradient.abs().max()
    return Agreement(int(differs.sum()), int(spikes.sum()), spikes.numel(), error.item())


def call(layer: Layer, x: Tensor, weight: Tensor, mode: str) -> Callable[[], object]:
    """What is measured, on a drive and a gradient that are made beforehand."""

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    def train() -> None:
        torch.autograd.grad(layer(x), x, weight)

    return train if mode == "training" else infer


Layers = dict[str, tuple[Contender, Layer]]


def layer_calls(layers: Layers, steps: int, neurons: int, mode: str) -> dict[str, Callable[[], object]]:
    """The calls of all contenders on one size; those of one layout share their input."""
    x, weight = drive(steps, neurons), drive(steps, neurons, seed=2)
    inputs: dict[tuple[bool, float], tuple[Tensor, Tensor]] = {}
    calls = {}
    for name, (contender, layer) in layers.items():
        key = (contender.batch_first, contender.gain)
        if key not in inputs:
            leaf = native(contender, x).clone().requires_grad_(mode == "training")
            inputs[key] = (leaf, native_weight(contender, weight))
        calls[name] = call(layer, *inputs[key], mode)
    return calls


def cell(layers: Layers, steps: int, neurons: int, mode: str, repeats: int, budget: float) -> dict[str, Timing | str]:
    """All contenders on one size, and the bound of the memory."""
    calls = layer_calls(layers, steps, neurons, mode)
    source = drive(steps, neurons)
    target = torch.zeros_like(source)
    results = alternate({**calls, COPY: lambda: target.copy_(source)}, repeats, budget)
    copied = results.pop(COPY)
    if isinstance(copied, Timing):
        results["bound"] = Timing(copied.cpu * COPIES[mode], copied.wall * COPIES[mode], copied.repeats)
    return results


def run(steps: Sequence[int], neurons: Sequence[int], repeats: int, budget: float) -> dict[str, Any]:
    """The whole grid: who was compared and how well it agrees with its twin, and the times."""
    made, checks, absent = admit(LAYERS, lambda c: (c, c.layer()), lambda pair: check(*pair))
    layers = {contender.name: (contender, layer) for contender, layer in made.values()}
    cells = [
        {
            "label": f"T={t} M={count(m)}",
            "steps": t,
            "neurons": m,
            "mode": mode,
            "results": cell(layers, t, m, mode, repeats, budget),
        }
        for mode in COPIES
        for m in neurons
        for t in steps
    ]
    return {"base": "bound", "contenders": roster(LAYERS, checks, absent), "cells": cells}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("lif", __doc__)
    timing_options(options)
    options.add_argument("--steps", type=int, nargs="+", metavar="T", help="time steps: 4 16 100")
    options.add_argument("--neurons", type=int, nargs="+", metavar="M", help="neurons a step, batch times width")
    asked = options.parse_args(arguments)
    report = begin(asked, "lif")
    report |= run(
        steps=asked.steps or ((4, 16) if asked.quick else (4, 16, 100)),
        neurons=asked.neurons or ((1 << 14,) if asked.quick else (1 << 16, 1 << 18, 1 << 20)),
        repeats=asked.repeats,
        budget=asked.budget,
    )
    finish(asked, report, dots)


if __name__ == "__main__":
    main()
