"""A layer of LIF neurons modulated by astrocytes beside the same layer without, and beside the loop that defines it.

8 domains of neighbouring channels, 3 time scales, senses="post", β = 0.9, soft reset, ATan(2), float32; the astrocytes
learn all they can. A training call is forward and backward of the layer alone, inference forward without gradients.
The last table holds a tree scan of the calcium of a known input against the sum step by step that the kernels make.

On a GPU (`--device cuda`) calls are timed by CUDA events, the cache overwritten before each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

import spikekit as sk
from benchmarks.gpu import Clock
from benchmarks.measure import Timing, alternate
from benchmarks.options import begin, parser, timing_options
from benchmarks.table import grid
from spikekit.ops import paths
from spikekit.ops.lif import lif

# Steps, samples, neurons.
SIZES = ((16, 64, 512), (100, 16, 512), (1000, 4, 512), (1000, 1, 128))
GPU_SIZES = ((16, 64, 4096), (100, 64, 4096), (1000, 32, 4096), (1000, 1, 4096))
QUICK = ((4, 2, 16),)
PLAIN, LOOP = "plain LIF", "reference loop, gain"
ACTS = ("gain", "threshold", "plasticity")
MODES = ("training", "inference")


def layers(device: str) -> dict[str, sk.LIF]:
    """The contenders by name."""
    made = {PLAIN: sk.LIF(0.9)}
    made |= {acts: sk.LIF(0.9, astrocyte=sk.Astrocyte(8, acts_on=acts)) for acts in ACTS}
    return {name: layer.to(device) for name, layer in (made | {LOOP: made["gain"]}).items()}


def call(name: str, layer: sk.LIF, x: Tensor, weight: Tensor, mode: str) -> Callable[[], object]:
    """What is timed."""

    def once() -> None:
        before = paths.forced_path()
        paths.set_path("reference" if name == LOOP else before)
        try:
            if mode == "training":
                torch.autograd.grad(layer(x), (x, *layer.parameters()), weight)
            else:
                with torch.no_grad():
                    layer(x)
        finally:
            paths.set_path(before)

    return once


def timed(calls: Mapping[str, Callable[[], object]], asked: argparse.Namespace) -> dict[str, Timing | str]:
    """Seconds of each call."""
    if asked.device == "cpu":
        return alternate(calls, asked.repeats, asked.budget)
    clock = Clock("cuda", asked.repeats)
    return {name: Timing(seconds, seconds, asked.repeats) for name, seconds in
            ((name, clock.seconds(one)) for name, one in calls.items())}  # fmt: skip


def run(sizes: Sequence[tuple[int, int, int]], asked: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders in turn on every size."""
    cells = []
    for size in sizes:
        torch.manual_seed(0)
        x, weight = (torch.randn(size, device=asked.device) for _ in range(2))
        x.mul_(0.5).add_(0.15).requires_grad_()
        made = layers(asked.device)
        with torch.no_grad():
            rates = {name: float(layer(x).mean()) for name, layer in made.items()}
        for mode in MODES:
            calls = {name: call(name, layer, x, weight, mode) for name, layer in made.items()}
            label = "T={} B={} N={}".format(*size)
            results = timed(calls, asked)
            cells.append({"label": label, "steps": size[0], "mode": mode, "rates": rates, "results": results})
    return cells


def tree(a: Tensor, decay: Tensor) -> Tensor:
    """Calcium [T, B, domains, K] of the activity [T, B, domains] by doubling: c[t] += decay^(2^i)·c[t - 2^i]."""
    c, reach = (1 - decay) * a.unsqueeze(-1), 1
    while reach < len(a):
        c = torch.cat((c[:reach], c[reach:] + decay**reach * c[:-reach]))
        reach *= 2
    return c


def scans(sizes: Sequence[tuple[int, int, int]], asked: argparse.Namespace) -> list[dict[str, Any]]:
    """What a tree scan would change: the calcium of presynaptic spikes, and the spikes of a layer that it modulates."""
    found = []
    for steps, batch, neurons in sizes:
        torch.manual_seed(0)
        before = (torch.rand(steps, batch, neurons, device=asked.device) < 0.1).float()
        x = torch.randn_like(before).mul_(0.5).add_(0.15)
        astrocyte = sk.Astrocyte(8, senses="pre", strength=0.5)
        layer = sk.LIF(0.9, astrocyte=astrocyte).to(asked.device)
        with torch.no_grad():
            state = {"v": torch.zeros_like(x[0]), "c": x.new_zeros(batch, 8, 3)}
            parts = layer._broadcast(x)
            spikes, _, traces = astrocyte.integrate(x, state, ("calcium", "modulation"), parts, layer.rule, before)
            decay = torch.exp(-1 / astrocyte.timescales)
            activity = before.unflatten(2, (8, -1)).mean(-1)
            c = tree(activity, decay)
            z = (astrocyte.weight * torch.cat((c[:1] * 0, c[:-1]))).sum(-1) + astrocyte.bias
            g = 1 + astrocyte.strength * z / (1 + z.abs())
            modulated, _, _ = lif(x * g.repeat_interleave(neurons // 8, -1), None, *parts, layer.rule)
        calls: dict[str, Callable[[], object]] = {
            "tree": lambda activity=activity, decay=decay: tree(activity, decay),  # type: ignore[misc]
            "whole layer": lambda layer=layer, x=x, before=before: layer(x, presynaptic=before),  # type: ignore[misc]
        }
        with torch.no_grad():
            results = timed(calls, asked)
        found.append(
            {
                "label": f"T={steps} B={batch} N={neurons}",
                "difference": float((c - traces["calcium"]).abs().max()),
                "spikes": int(spikes.sum()),
                "differ": int((spikes != modulated).sum()),
                "results": results,
            }
        )
    return found


def show(report: dict[str, Any]) -> str:
    """Milliseconds, and how many times the plain layer."""
    clock, lines = report["clock"], []
    for mode in MODES:
        rows = []
        for cell in report["cells"]:
            if cell["mode"] == mode:
                plain = getattr(cell["results"][PLAIN], clock)
                times = {name: getattr(found, clock) for name, found in cell["results"].items()}
                rows.append([cell["label"], *(f"{s * 1e3:.3g} ms, {s / plain:.1f}x" for s in times.values())])
        lines += [f"### {mode.capitalize()}", "", *grid(["", *report["cells"][0]["results"]], rows)]
    rows = []
    for cell in report["scans"]:
        tree, whole = (getattr(cell["results"][name], clock) * 1e3 for name in ("tree", "whole layer"))
        rows.append(
            [
                cell["label"],
                f"{cell['difference']:.1e}",
                f"{cell['differ']} of {cell['spikes']}",
                f"{tree:.3g} ms",
                f"{whole:.3g} ms",
            ]
        )
    head = ["", "calcium, largest difference", "spikes that differ", "tree, calcium alone", "kernel, whole layer"]
    return "\n".join([*lines, "### A tree instead", "", *grid(head, rows)])


def draw(report: dict[str, Any], file: Path) -> None:
    """Times of training, a group of bars a size."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    ax = figure.subplots()
    cells = [cell for cell in report["cells"] if cell["mode"] == "training"]
    names = list(cells[0]["results"])
    for number, name in enumerate(names):
        values = [getattr(cell["results"][name], report["clock"]) * 1e3 for cell in cells]
        ax.bar([i + (number - 2) * 0.16 for i in range(len(cells))], values, 0.15, label=name)
    ax.set_xticks(range(len(cells)), [cell["label"] for cell in cells])
    ax.set(yscale="log", ylabel="forward and backward, ms", title="A layer with astrocytes")
    ax.legend(frameon=False)
    figure.savefig(file, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("astrocyte", __doc__)
    timing_options(options)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = options.parse_args(arguments)
    report = begin(asked, "astrocyte")
    sizes = QUICK if asked.quick else SIZES if asked.device == "cpu" else GPU_SIZES
    report |= {"cells": run(sizes, asked), "scans": scans(sizes, asked)}
    if asked.device == "cuda":
        report["device"] = torch.cuda.get_device_name()
    text = show(report)
    print(text)
    asked.results.mkdir(parents=True, exist_ok=True)
    place = "gpu" if asked.device == "cuda" else f"{asked.threads}t"
    file = asked.results / f"astrocyte-{place}{'-quick' if asked.quick else ''}"
    file.with_suffix(".json").write_text(json.dumps(report, default=vars, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(f"# {file.name}\n\n{text}\n", encoding="utf-8")
    draw(report, file.with_suffix(".png"))
    print(f"\nwritten: {file}.json, .md, .png")


if __name__ == "__main__":
    main()
