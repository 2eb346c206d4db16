"""Time against the density of the input: the MLP and its first layer alone, beside dense weights.

Four contenders: spikekit as it is; spikekit with weights that always take the dense product, its neurons unchanged;
spikekit with everything in plain PyTorch (SPIKEKIT_PATH=torch); and the dense weights alone, without neurons. Where
the first meets the second, touching only the spikes stops paying. Hidden layers fire at 5 % throughout.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.agreement import Agreement, admit, on_path, roster
from benchmarks.contenders import OURS, Contender
from benchmarks.measure import alternate
from benchmarks.networks import Network, check, floor, ours
from benchmarks.options import begin, finish, parser, timing_options
from benchmarks.plot import curves, legend_below, modes, plain_numbers, title
from benchmarks.table import NOTHING, grid, ratio, value
from benchmarks.workloads import Workload, mlp

DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
# Times of one run move by this much without a reason.
NOISE = 1.1

DENSE = Contender("spikekit, dense weights", OURS.twin, "every Linear replaced by a module that calls F.linear")
TORCH = Contender("spikekit, plain PyTorch", OURS.twin, "SPIKEKIT_PATH=torch")
CONTENDERS = (OURS, DENSE, TORCH)


class Dense(nn.Module):
    """A linear layer that nothing recognises as one."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class OnTorch(nn.Module):
    """A network on the path "torch", forward; the backward pass belongs to the operators that ran."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        with on_path("torch"):
            return self.net(x)


def build(contender: Contender, workload: Workload) -> Network:
    """The network of one of the three."""
    stages = copy.deepcopy(workload.stages)
    if contender is DENSE:
        stages = [
            nn.Sequential(*(Dense(part) if isinstance(part, nn.Linear) else part for part in stage)) for stage in stages
        ]
    net: nn.Module = ours(contender.twin, stages)
    return Network(contender, OnTorch(net) if contender is TORCH else net, stages, net)


def layer_of(workload: Workload) -> Workload:
    """The first layer of weights alone."""
    return Workload("linear 700-256", workload.x, workload.labels, workload.stages[:1])


# By density: a workload, and the networks that run it by name.
Sweep = dict[float, tuple[Workload, dict[str, Network]]]


def cells(sweep: Sweep, mode: str, repeats: int, budget: float) -> list[dict[str, Any]]:
    """One mode at all densities, which take turns too: what moves while the machine does is no effect of density."""
    calls = {
        (density, name): network.call(workload.x, workload.labels, mode)
        for density, (workload, networks) in sweep.items()
        for name, network in networks.items()
    }
    times = alternate({f"{density} {name}": call for (density, name), call in calls.items()}, repeats, budget)
    return [
        {
            "label": f"{workload.name}, {density:.1%}",
            "workload": workload.name,
            "density": density,
            "mode": mode,
            "results": {name: times[f"{density} {name}"] for name in networks},
        }
        for density, (workload, networks) in sweep.items()
    ]


def run(densities: Sequence[float], steps: int, batch: int, repeats: int, budget: float) -> dict[str, Any]:
    """All densities; spikes and gradients are compared at each."""
    whole: Sweep = {}
    layers: Sweep = {}
    checks: dict[str, Agreement] = {}
    absent: dict[str, str] = {}
    for density in densities:
        workload = mlp(steps, batch, density)
        networks, checks, refused = admit(
            CONTENDERS, partial(build, workload=workload), partial(check, workload=workload)
        )
        absent |= refused
        whole[density] = workload, {"floor": floor(workload), **networks}
        layer = layer_of(workload)
        layers[density] = layer, {c.name: build(c, layer) for c in (OURS, DENSE) if c.name in networks}
    return {
        "base": "floor",
        "contenders": roster(CONTENDERS, checks, absent),
        "cells": [
            cell
            for sweep in (whole, layers)
            for mode in ("training", "inference")
            for cell in cells(sweep, mode, repeats, budget)
        ],
    }


def gains(found: Sequence[dict[str, Any]], clock: str) -> list[tuple[float, float]]:
    """Each density, and how many times faster spikekit is than with dense weights."""
    pairs = [
        (cell["density"], ratio(cell["results"].get(DENSE.name), cell["results"].get(OURS.name), clock))
        for cell in found
    ]
    return [(density, gain) for density, gain in pairs if gain is not None]


def crossover(found: Sequence[tuple[float, float]]) -> float | None:
    """The density, log-interpolated, up to which `gains` exceed noise: the last one if all do, None if none does."""
    if not found or found[0][1] <= NOISE:
        return None
    for (lower, above), (higher, below) in pairwise(found):
        if below <= NOISE:
            share = (above - NOISE) / (above - below)
            return float(lower * (higher / lower) ** share)
    return found[-1][0]


def monotone(found: Sequence[dict[str, Any]], clock: str) -> bool:
    """Whether no density is slower than a higher one, beyond noise."""
    times = [t for cell in found if (t := value(cell["results"].get(OURS.name), clock)) is not None]
    return all(t <= NOISE * later for i, t in enumerate(times) for later in times[i + 1 :])


def series(report: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The cells of each workload and mode, by density."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in report["cells"]:
        found.setdefault((cell["workload"], cell["mode"]), []).append(cell)
    return found


def summary(report: dict[str, Any]) -> list[dict[str, Any]]:
    """For each workload and mode: monotone or not, how much faster the lowest density is, the crossover."""
    clock = report["clock"]
    lines = []
    for (workload, mode), found in series(report).items():
        times = [value(cell["results"].get(OURS.name), clock) for cell in found]
        spread = times[-1] / times[0] if times[0] and times[-1] else None
        lines.append(
            {
                "workload": workload,
                "mode": mode,
                "monotone": monotone(found, clock),
                "spread": spread,
                "crossover": crossover(gains(found, clock)),
                "worst": min((gain for _, gain in gains(found, clock)), default=None),
            }
        )
    return lines


def remarks(report: dict[str, Any]) -> list[str]:
    """The summary as a table."""
    rows = []
    for line in report["summary"]:
        crossing = f"{line['crossover']:.1%}" if line["crossover"] else "nowhere"
        spread = f"{line['spread']:.1f}x" if line["spread"] else NOTHING
        worst = f"{line['worst']:.2f}x" if line["worst"] else NOTHING
        rows.append([line["workload"], line["mode"], "yes" if line["monotone"] else "NO", spread, crossing, worst])
    head = [
        "",
        "",
        "fewer spikes, faster",
        "highest density over lowest",
        f"over {NOISE}x faster than dense weights up to",
        "least gain over them",
    ]
    return ["### Crossover", "", *grid(head, rows)]


def _widen(ax: Axes) -> None:
    """Show a factor of 4 at least, so that noise does not look like a trend."""
    low, high = ax.get_ylim()
    extra = max(1.0, 4 * low / high) ** 0.5
    ax.set_ylim(low / extra, high * extra)
    plain_numbers(ax.yaxis)


def draw(report: dict[str, Any], file: Path) -> None:
    """Time over density, a panel for each workload and mode."""
    workloads = list(dict.fromkeys(cell["workload"] for cell in report["cells"]))
    figure = Figure(figsize=(11, 4 * len(workloads)), layout="constrained")
    axes = figure.subplots(len(workloads), 2, squeeze=False)
    found, crossings = series(report), {(s["workload"], s["mode"]): s["crossover"] for s in report["summary"]}
    for row, workload in zip(axes, workloads, strict=True):
        for ax, mode in zip(row, modes(report), strict=True):
            curves(ax, report, found[workload, mode], "density")
            ax.set(xlabel="input density, %", ylabel="ms a call")
            _widen(ax)
            ax.set_title(f"{workload}, {mode}", fontsize=10)
            densities = [cell["density"] for cell in found[workload, mode]]
            ax.set_xticks(densities, [f"{100 * d:g}" for d in densities])
            crossing = crossings[workload, mode]
            if crossing and crossing < densities[-1]:
                ax.axvline(crossing, color="#D55E00", lw=1, ls=":", label="crossover")
    legend_below(figure)
    title(figure, report, "Time against input density")
    figure.savefig(file, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("density", __doc__)
    timing_options(options)
    options.add_argument("--densities", type=float, nargs="+", metavar="D", help="parts of the input that are on")
    asked = options.parse_args(arguments)
    report = begin(asked, "density")
    steps, batch = (10, 4) if asked.quick else (100, 64)
    densities = asked.densities or ((0.01, 0.1, 0.5) if asked.quick else DENSITIES)
    report |= run(sorted(densities), steps, batch, asked.repeats, asked.budget)
    report["summary"] = summary(report)
    report["remarks"] = remarks(report)
    finish(asked, report, draw)


if __name__ == "__main__":
    main()
