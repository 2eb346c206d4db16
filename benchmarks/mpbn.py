"""A training step of one LIF layer with membrane potential batch normalisation, beside SpikingJelly and a plain loop.

    u[t] = v[t-1] / 4 + x[t],  a spike where BN(u[t]) > 1/2,  hard reset, ATan(2), float32, statistics of each step

The plain loop computes that on `functional.batch_norm`, once a step. SpikingJelly's MPBNLIFNode is another model: it
keeps BN(u) as its membrane, and resets that. Shapes and work are the same, the spikes are not; so the check at the end
holds spikekit against the plain loop, and SpikingJelly against a loop of its own equations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import spikekit as sk
from benchmarks.contenders import _deprecated_jit, _Fire
from benchmarks.measure import Timing, alternate, one_line
from benchmarks.options import begin, parser, timing_options
from benchmarks.table import grid

BETA, THRESHOLD, BATCH = 0.25, 0.5, 64
# Steps and the shape of a sample.
SIZES = ((16, (256,)), (100, (256,)), (16, (4096,)), (100, (1024,)), (16, (64, 16, 16)))
QUICK = ((4, (32,)), (4, (8, 4, 4)))
OURS, PLAIN, PEER = "spikekit", "plain loop", "spikingjelly"

# A layer, drive to spikes, and its BN's weight and bias.
Layer = tuple[Callable[[Tensor], Any], list[Tensor]]


def spikekit_layer(channels: int) -> Layer:
    norm = sk.MPBN(channels)
    return sk.LIF(BETA, THRESHOLD, "hard", detach_reset=True, norm=norm), list(norm.parameters())


def plain_layer(channels: int, keep_normalised: bool = False) -> Layer:
    """A loop over time. keep_normalised: SpikingJelly's equations, in which BN(u) is what is reset and kept."""
    bn = torch.nn.BatchNorm1d(channels)

    def run(x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for drive in x.unbind(0):
            u = BETA * v + drive
            m = functional.batch_norm(u, bn.running_mean, bn.running_var, bn.weight, bn.bias, True, 0.1, bn.eps)
            s = _Fire.apply(m - THRESHOLD)
            v = (m if keep_normalised else u) * (1 - s.detach())
            spikes.append(s)
        return torch.stack(spikes)

    return run, list(bn.parameters())


def spikingjelly_layer(channels: int, conv: bool) -> Layer:
    """Raises ImportError."""
    with _deprecated_jit():
        from spikingjelly.activation_based import functional as jelly
        from spikingjelly.activation_based import neuron, surrogate

    node = neuron.MPBNLIFNode(
        tau=1 / (1 - BETA),
        decay_input=False,
        v_threshold=THRESHOLD,
        v_reset=0.0,
        surrogate_function=surrogate.ATan(2.0),
        detach_reset=True,
        step_mode="m",
        **{"out_channels" if conv else "out_features": channels},
    )

    def run(x: Tensor) -> Any:
        jelly.reset_net(node)
        return node(x)

    return run, list(node.vbn.parameters())


def layers(channels: int, conv: bool) -> tuple[dict[str, Layer], dict[str, str]]:
    """The contenders, and why one is absent."""
    made, absent = {OURS: spikekit_layer(channels), PLAIN: plain_layer(channels)}, {}
    try:
        made[PEER] = spikingjelly_layer(channels, conv)
    except Exception as error:
        absent[PEER] = one_line(error)
    return made, absent


def task(steps: int, shape: Sequence[int], batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """A drive [T, B, ...] that requires grad, and the gradient that is sent back."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(steps, batch, *shape, generator=generator) for _ in range(2))
    return x.mul_(0.5).add_(0.15).requires_grad_(), weight


def step(layer: Layer, x: Tensor, weight: Tensor) -> Callable[[], object]:
    """A training step, as far as the layer goes."""
    run, parameters = layer
    return lambda: torch.autograd.grad(run(x), (x, *parameters), weight)


def agreement(name: str, layer: Layer, other: Layer, steps: int = 8, shape: Sequence[int] = (64,)) -> dict[str, Any]:
    """Two layers on one drive: spikes that differ, and the gradient of the drive where none of the channel does."""
    x, weight = task(steps, shape)
    trains = [run(x) for run, _ in (layer, other)]
    grads = [torch.autograd.grad(train, x, weight)[0] for train in trains]
    differs = (trains[0] != trains[1]).flatten(0, 1).any(0)
    error = ((grads[0] - grads[1]).abs() * ~differs).max() / grads[1].abs().max()
    count = int((trains[0] != trains[1]).sum())
    return {"name": name, "differ": count, "spikes": int(trains[1].sum()), "gradient_error": error.item()}


def checks() -> list[dict[str, Any]]:
    """Who computes what: each against the plain loop of its equations."""
    made, _ = layers(64, conv=False)
    found = [agreement(f"{OURS} and the {PLAIN}", made[OURS], made[PLAIN])]
    if PEER in made:
        own = plain_layer(64, keep_normalised=True)
        found.append(agreement(f"{PEER} and the {PLAIN} that keeps BN(u)", made[PEER], own))
    return found


def run(sizes: Sequence[tuple[int, tuple[int, ...]]], repeats: int, budget: float) -> dict[str, Any]:
    """All contenders in turn on every size."""
    cells, absent = [], {}
    for steps, shape in sizes:
        made, absent = layers(shape[0], conv=len(shape) > 1)
        x, weight = task(steps, shape)
        results = alternate({name: step(layer, x, weight) for name, layer in made.items()}, repeats, budget)
        cells.append({"label": f"T={steps} N={'x'.join(map(str, shape))}", "steps": steps, "results": results})
    return {"batch": BATCH, "absent": absent, "checks": checks(), "cells": cells}


def show(report: dict[str, Any]) -> str:
    """Milliseconds, and how many times as long as spikekit."""
    clock, rows = report["clock"], []
    for cell in report["cells"]:
        ours = getattr(cell["results"][OURS], clock)
        row = [cell["label"]]
        for name in (OURS, PLAIN, PEER):
            found = cell["results"].get(name)
            if isinstance(found, Timing):
                value = getattr(found, clock)
                row.append(f"{value * 1e3:.3g} ms" + ("" if name == OURS else f", {value / ours:.1f}x"))
            else:
                row.append(found or "not installed")
        rows.append(row)
    lines = grid(["", OURS, PLAIN, PEER], rows)
    for check in report["checks"]:
        spikes = f"{check['differ']} spikes of {check['spikes']} differ"
        lines.append(f"- {check['name']}: {spikes}, gradient {check['gradient_error']:.0e}")
    lines += [f"- {name}: {reason}" for name, reason in report["absent"].items()]
    return "\n".join(lines)


def write(asked: argparse.Namespace, report: dict[str, Any]) -> None:
    """Print the report and keep it as JSON and Markdown."""
    text = show(report)
    print(text)
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / f"mpbn-{asked.threads}t{'-quick' if asked.quick else ''}"
    file.with_suffix(".json").write_text(json.dumps(report, default=vars, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(f"# {file.name}\n\n{text}\n", encoding="utf-8")
    print(f"\nwritten: {file}.json, .md")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("mpbn", __doc__)
    timing_options(options)
    asked = options.parse_args(arguments)
    report = begin(asked, "mpbn")
    report |= run(QUICK if asked.quick else SIZES, asked.repeats, asked.budget)
    write(asked, report)


if __name__ == "__main__":
    main()
