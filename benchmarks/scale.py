"""Time and memory of one LIF layer, forward and backward, against the number of steps and of neurons.

Whether both grow in proportion is the slope of the line in a log-log plot, over its upper half: 1.0 is linear. A
contender leaves a series before a call that would exceed its budget, if it grew with the square from here on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.agreement import admit, roster
from benchmarks.contenders import LAYERS, OURS
from benchmarks.footprint import MIB, kept_for_backward
from benchmarks.lif import Layers, check, drive, layer_calls, native
from benchmarks.measure import Timing, alternate
from benchmarks.options import begin, finish, parser, timing_options
from benchmarks.plot import curves, legend_below, title
from benchmarks.table import NOTHING, count, grid, value

STEPS = (16, 64, 256, 1024, 4096)
NEURONS = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
TIME, KEPT = "training", "kept for backward"


def affordable(layers: Layers, last: dict[str, Timing | str], growth: float, budget: float) -> Layers:
    """Those whose next call, the size grown by `growth`, stays in the budget even if time grows as the square."""
    kept = {}
    for name, pair in layers.items():
        before = last.get(name)
        if before is None or (isinstance(before, Timing) and before.cpu * growth**2 <= budget):
            kept[name] = pair
    return kept


def kept_by(layers: Layers, steps: int, neurons: int) -> dict[str, float]:
    """MiB that each contender keeps for the backward pass."""
    found = {}
    for name, (contender, layer) in layers.items():
        x: Tensor = native(contender, drive(steps, neurons)).clone().requires_grad_()
        found[name] = kept_for_backward(lambda layer=layer, x=x: layer(x)) / MIB  # type: ignore[misc]
    return found


def series(layers: Layers, sizes: Sequence[tuple[int, int]], along: str, repeats: int, budget: float) -> list[Any]:
    """A cell of times and a cell of memory for each (steps, neurons). along: "steps" or "neurons", what grows."""
    cells: list[Any] = []
    last: dict[str, Timing | str] = {}
    before = None
    for steps, neurons in sizes:
        growth = steps * neurons / before if before else 1.0
        layers = affordable(layers, last, growth, budget)
        last = alternate(layer_calls(layers, steps, neurons, "training"), repeats, budget)
        where = {"label": f"T={steps} M={count(neurons)}", "along": along, "steps": steps, "neurons": neurons}
        cells.append({**where, "mode": TIME, "results": last})
        cells.append({**where, "mode": KEPT, "unit": "MiB", "results": kept_by(layers, steps, neurons)})
        before = steps * neurons
    return cells


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least squares of log y over log x, over the upper half of the points and three of them at least."""
    upper = points[-max(3, math.ceil(len(points) / 2)) :]
    if len(upper) < 2 or any(y <= 0 for _, y in upper):
        return None
    return statistics.linear_regression(*zip(*[(math.log(x), math.log(y)) for x, y in upper], strict=True)).slope


def slopes(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The slope of each contender in each series, of time and of memory."""
    found = []
    for along in ("steps", "neurons"):
        for mode in (TIME, KEPT):
            cells = [cell for cell in report["cells"] if cell["along"] == along and cell["mode"] == mode]
            for contender in report["contenders"]:
                pairs = [
                    (cell[along], value(cell["results"].get(contender["name"]), report["clock"])) for cell in cells
                ]
                points = [(x, y) for x, y in pairs if y is not None]
                if points:
                    upto = points[-1][0]
                    found.append(
                        {"name": contender["name"], "along": along, "mode": mode, "slope": slope(points), "upto": upto}
                    )
    return found


def bytes_a_step(report: dict[str, Any]) -> float | None:
    """Bytes per neuron that spikekit keeps for each further step, from the two longest sequences."""
    kept = [c for c in report["cells"] if c["along"] == "steps" and c["mode"] == KEPT and OURS.name in c["results"]]
    if len(kept) < 2:
        return None
    (a, b), neurons = kept[-2:], kept[-1]["neurons"]
    more = (b["results"][OURS.name] - a["results"][OURS.name]) * MIB
    return float(more / neurons / (b["steps"] - a["steps"]))


def remarks(report: dict[str, Any]) -> list[str]:
    """The slopes as a table, and the constant of memory."""
    table: dict[str, dict[tuple[str, str], str]] = {}
    for line in report["slopes"]:
        shown = NOTHING if line["slope"] is None else f"{line['slope']:.2f}"
        table.setdefault(line["name"], {})[line["along"], line["mode"]] = f"{shown} (to {count(line['upto'])})"
    columns = [(along, mode) for along in ("steps", "neurons") for mode in (TIME, KEPT)]
    rows = [[name, *(slopes.get(column, NOTHING) for column in columns)] for name, slopes in table.items()]
    head = [
        "slope in the log-log plot, 1.0: linear",
        "time over T",
        "memory over T",
        "time over neurons",
        "memory over neurons",
    ]
    constant = report["bytes_a_step"]
    words = "unknown" if constant is None else f"{constant:.3f}"
    return ["### Slopes", "", *grid(head, rows), f"{OURS.name} keeps {words} bytes per neuron and further step.", ""]


def draw(report: dict[str, Any], file: Path) -> None:
    """Four log-log panels: time and memory, against steps and neurons."""
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    axes = figure.subplots(2, 2)
    for row, mode, ylabel in zip(
        axes, (TIME, KEPT), ("forward and backward, ms", "kept for backward, MiB"), strict=True
    ):
        for ax, along in zip(row, ("steps", "neurons"), strict=True):
            cells = [cell for cell in report["cells"] if cell["along"] == along and cell["mode"] == mode]
            curves(ax, report, cells, along)
            sizes = sorted({cell[along] for cell in cells})
            ax.set_xticks(sizes, [count(size) if along == "neurons" else str(size) for size in sizes])
            fixed = f"{count(cells[0]['neurons'])} neurons" if along == "steps" else f"T = {cells[0]['steps']}"
            ax.set(xlabel="time steps T" if along == "steps" else "neurons of a step", ylabel=ylabel)
            ax.set_title(fixed, fontsize=10)
            middle = value(cells[0]["results"].get(OURS.name), report["clock"])
            if middle:
                ends = (sizes[0], sizes[-1])
                ax.plot(ends, [middle / 3 * e / sizes[0] for e in ends], ":", color="black", lw=1, label="linear")
    legend_below(figure)
    title(figure, report, "One LIF layer against its size")
    figure.savefig(file, dpi=120)


def run(
    steps: Sequence[int], neurons: Sequence[int], fixed: tuple[int, int], repeats: int, budget: float
) -> dict[str, Any]:
    """Both series. fixed: the neurons while steps grow, and the steps while neurons grow."""
    made, checks, absent = admit(LAYERS, lambda c: (c, c.layer()), lambda pair: check(*pair))
    layers = {contender.name: (contender, layer) for contender, layer in made.values()}
    cells = series(layers, [(t, fixed[0]) for t in steps], "steps", repeats, budget)
    cells += series(layers, [(fixed[1], m) for m in neurons], "neurons", repeats, budget)
    return {"contenders": roster(LAYERS, checks, absent), "cells": cells}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("scale", __doc__)
    timing_options(options)
    options.set_defaults(repeats=5)
    asked = options.parse_args(arguments)
    report = begin(asked, "scale")
    if asked.quick:
        report |= run((4, 8, 16), (1 << 8, 1 << 9, 1 << 10), (1 << 10, 4), asked.repeats, asked.budget)
    else:
        report |= run(STEPS, NEURONS, (1 << 12, 16), asked.repeats, asked.budget)
    report["slopes"] = slopes(report)
    report["bytes_a_step"] = bytes_a_step(report)
    report["remarks"] = remarks(report)
    finish(asked, report, draw)


if __name__ == "__main__":
    main()
