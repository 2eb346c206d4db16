"""What mlp and conv share: check every contender on the workload, then time a training step and inference."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from benchmarks.agreement import admit, roster
from benchmarks.compiled import compare_compiled
from benchmarks.contenders import NETWORKS
from benchmarks.measure import alternate
from benchmarks.networks import Network, build, check, floor
from benchmarks.options import begin, finish, parser, timing_options
from benchmarks.plot import bars
from benchmarks.workloads import Workload

MODES = ("training", "inference")


def network_calls(networks: Mapping[str, Network], workload: Workload, mode: str) -> dict[str, Callable[[], object]]:
    """The calls of all networks that have this mode; those of one layout share the frames."""
    inputs: dict[bool, Tensor] = {}
    calls = {}
    for name, network in networks.items():
        if network.contender.pieces is not None and mode == "training":
            continue
        batch_first = network.contender.batch_first
        if batch_first not in inputs:
            inputs[batch_first] = network.lay_out(workload.x)
        calls[name] = network.call(inputs[batch_first], workload.labels, mode)
    return calls


def run(workload: Workload, repeats: int, budget: float) -> dict[str, Any]:
    """A report of one workload: a cell for each mode."""
    networks, checks, absent = admit(NETWORKS, lambda c: build(c, workload), lambda n: check(n, workload))
    networks = {"floor": floor(workload), **networks}
    steps, batch = workload.x.shape[:2]
    cells = [
        {
            "label": f"{workload.name} T={steps} B={batch}",
            "mode": mode,
            "input_density": workload.x.mean().item(),
            "results": alternate(network_calls(networks, workload, mode), repeats, budget),
        }
        for mode in MODES
    ]
    return {"base": "floor", "contenders": roster(NETWORKS, checks, absent), "cells": cells}


def activity(report: dict[str, Any]) -> str:
    """How much the input and the hidden layers fire, in words."""
    found = next((c["check"] for c in report["contenders"] if c["check"] and c["check"]["entries"]), None)
    hidden = f"{found['spikes'] / found['entries']:.1%}" if found else "unknown"
    return f"Input density {report['cells'][0]['input_density']:.1%}, hidden neurons that fire at a step {hidden}."


def network_main(
    name: str,
    description: str | None,
    make: Callable[..., Workload],
    full: Mapping[str, int],
    quick: Mapping[str, int],
    arguments: Sequence[str] | None,
) -> None:
    """The command of one network. make: its workload, given steps, batch and density; full, quick: steps and batch."""
    options = parser(name, description)
    timing_options(options)
    options.add_argument("--steps", type=int, metavar="T", help=f"time steps, {full['steps']} unless quick")
    options.add_argument("--batch", type=int, metavar="B", help=f"samples, {full['batch']} unless quick")
    options.add_argument("--density", type=float, default=0.05, help="part of the input that is on")
    options.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="time torch.compile of ours as well"
    )
    asked = options.parse_args(arguments)
    report = begin(asked, name)
    sizes = dict(quick if asked.quick else full)
    sizes |= {key: given for key in sizes if (given := getattr(asked, key)) is not None}
    workload = make(**sizes, density=asked.density)
    report |= run(workload, asked.repeats, asked.budget)
    report["title"] = f"{name}: T={sizes['steps']}, B={sizes['batch']}, {asked.density:.0%} of the input on"
    report["remarks"] = [activity(report), ""]
    if asked.compile:
        report["compiled"], lines = compare_compiled(workload, asked.repeats, asked.budget, report["clock"])
        report["remarks"] += lines
    finish(asked, report, bars)
