"""CUBALIF and RecurrentLIF beside snnTorch's Synaptic and RLeaky and a plain loop: T steps, B samples, N neurons.

    CUBALIF       i = 0.5·i + x,  u = 0.9·v + i           RecurrentLIF  u[t] = 0.9·v[t-1] + x[t] + W s[t-1]

A spike over 1, soft reset a step late as in snnTorch (a quantum of 1 / 0.9), its gradient detached, ATan(2), float32. W
is one orthogonal matrix for all. Before it is timed each contender is held against spikekit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import spikekit as sk
from benchmarks.contenders import BETA, Step, _deprecated_jit, _Fire, unroll
from benchmarks.measure import Timing, alternate, one_line
from benchmarks.options import begin, parser, timing_options
from benchmarks.table import grid

ALPHA = 0.5
KINDS = ("CUBALIF", "RecurrentLIF")
# Steps, samples, neurons.
SIZES = ((100, 64, 256), (100, 16, 64), (16, 256, 256), (100, 32, 1024))
QUICK = ((4, 2, 8),)
OURS, PLAIN, PEER = "spikekit", "plain loop", "snntorch"
Layer = Callable[[Tensor], Any]


def _plain(kind: str, linear: nn.Linear) -> Step:
    def step(drive: Tensor, state: Any) -> tuple[Tensor, Any]:
        kept, v = (torch.zeros_like(drive),) * 2 if state is None else state
        drive = ALPHA * kept + drive if kind == "CUBALIF" else drive + linear(kept)
        u = BETA * v + drive
        s = _Fire.apply(u - 1.0)
        return s, (drive if kind == "CUBALIF" else s, u - s.detach() / BETA)

    return step


def _snntorch(kind: str, linear: nn.Linear) -> Step:
    """Raises ImportError."""
    with _deprecated_jit():
        import snntorch
        from snntorch import surrogate

    curve = surrogate.atan(alpha=2.0)
    if kind == "CUBALIF":
        node = snntorch.Synaptic(alpha=ALPHA, beta=BETA, spike_grad=curve)
    else:
        node = snntorch.RLeaky(beta=BETA, linear_features=linear.in_features, spike_grad=curve)
        node.recurrent = linear

    def step(drive: Tensor, state: Any) -> tuple[Any, Any]:
        first, second = (torch.zeros_like(drive),) * 2 if state is None else state
        spikes, *others = node(drive, first, second)
        return spikes, others if kind == "CUBALIF" else (spikes, others[0])

    return step


def layers(kind: str, neurons: int) -> tuple[dict[str, Layer], list[Tensor], dict[str, str]]:
    """The contenders, the weights that they share, and why one is absent."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"reset_quantum": 1 / BETA, "detach_reset": True}
    recurrent = sk.RecurrentLIF(neurons, BETA, **settings)
    ours = sk.CUBALIF(ALPHA, BETA, **settings) if kind == "CUBALIF" else recurrent
    made: dict[str, Layer] = {OURS: ours, PLAIN: unroll(_plain(kind, recurrent.recurrent))}
    absent = {}
    try:
        made[PEER] = unroll(_snntorch(kind, recurrent.recurrent))
    except Exception as error:
        absent[PEER] = one_line(error)
    return made, list(ours.parameters()), absent


def task(steps: int, batch: int, neurons: int) -> tuple[Tensor, Tensor]:
    """A drive [T, B, N] under which about one neuron in ten fires each step, and the gradient that is sent back."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(steps, batch, neurons, generator=generator) for _ in range(2))
    return x.mul_(0.4).add_(0.05).requires_grad_(), weight


def call(layer: Layer, parameters: Sequence[Tensor], x: Tensor, weight: Tensor, mode: str) -> Callable[[], object]:
    """A training step as far as the layer goes, or inference."""

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    return infer if mode == "inference" else lambda: torch.autograd.grad(layer(x), (x, *parameters), weight)


def run(sizes: Sequence[tuple[int, int, int]], repeats: int, budget: float) -> dict[str, Any]:
    """All contenders in turn on every size."""
    cells, absent = [], {}
    for kind in KINDS:
        for size in sizes:
            made, parameters, absent = layers(kind, size[2])
            x, weight = task(*size)
            with torch.no_grad():
                spikes = made[OURS](x)
                differ = {name: int((layer(x) != spikes).sum()) for name, layer in made.items()}
            for mode in ("training", "inference"):
                calls = {name: call(layer, parameters, x, weight, mode) for name, layer in made.items()}
                label = f"{kind} T={size[0]} B={size[1]} N={size[2]} {mode}"
                results = alternate(calls, repeats, budget)
                rate = float(spikes.mean())
                cells.append({"label": label, "rate": rate, "differ": differ, "results": results})
    return {"absent": absent, "cells": cells}


def show(report: dict[str, Any]) -> str:
    """Milliseconds, how many times as long as spikekit, and the entries in which spikes differ."""
    clock, rows = report["clock"], []
    for cell in report["cells"]:
        ours = getattr(cell["results"][OURS], clock)
        row = [cell["label"], f"{cell['rate']:.1%}", f"{ours * 1e3:.3g} ms"]
        for name in (PLAIN, PEER):
            found = cell["results"].get(name, "not installed")
            if isinstance(found, Timing):
                value = getattr(found, clock)
                found = f"{value * 1e3:.3g} ms, {value / ours:.1f}x, {cell['differ'][name]} differ"
            row.append(found)
        rows.append(row)
    return "\n".join(grid(["", "rate", OURS, PLAIN, PEER], rows))


def write(asked: argparse.Namespace, report: dict[str, Any]) -> None:
    """Print the report and keep it as JSON and Markdown."""
    text = show(report)
    print(text)
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / f"family-{asked.threads}t{'-quick' if asked.quick else ''}"
    file.with_suffix(".json").write_text(json.dumps(report, default=vars, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(f"# {file.name}\n\n{text}\n", encoding="utf-8")
    print(f"\nwritten: {file}.json, .md")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("family", __doc__)
    timing_options(options)
    asked = options.parse_args(arguments)
    report = begin(asked, "family")
    report |= run(QUICK if asked.quick else SIZES, asked.repeats, asked.budget)
    write(asked, report)


if __name__ == "__main__":
    main()
