"""The results of `benchmarks.continual` as a page and a picture: ACC, BWT, and the accuracy on each task over time."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.continual_runs import Run, is_of
from benchmarks.table import grid, mean_error
from spikekit import continual as cl
from spikekit import viz

ORDER = ("plain", "sparse", "replay", "ewc", "gpm", "hlop", "hlop-qr", "hlop-fast")


def read(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(method, rule) -> its results, by seed; none of earlier settings, which a mean would hide."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        line = json.loads(file.read_text())
        if not is_of(line, Run(*(line[name] for name in ("protocol", "method", "rule", "seed", "subset")))):
            continue
        found.setdefault((line["method"], line["rule"]), []).append(line)
    return dict(sorted(found.items(), key=lambda entry: (entry[0][1], ORDER.index(entry[0][0]))))


def report(results: Path, group: str) -> str:
    """Write the page of `group` and return it."""
    found = read(results / "continual" / group)
    if not found:
        return f"no results of {group} yet"
    head = ["method", "rule", "ACC %", "BWT points", "forgetting", "when learned %", "seeds", "CPU min a run"]
    rows = []
    for (method, rule), lines in found.items():
        matrices = [torch.tensor(line["matrix"], dtype=torch.float64) for line in lines]
        cells = [
            mean_error([100 * measure(matrix) for matrix in matrices], 2, sign)
            for measure, sign in (
                (cl.average_accuracy, ""),
                (cl.backward_transfer, "+"),
                (cl.forgetting, ""),
                (cl.learning_accuracy, ""),
            )
        ]
        minutes = statistics.fmean(line["cpu_seconds"] for line in lines) / 60
        rows.append([method, rule, *cells, str(len(lines)), f"{minutes:.0f}"])
    page = f"# Continual learning: {group}\n\n{chr(10).join(grid(head, rows))}\n{_explained(found)}"
    page += f"\n![Accuracy on the tasks over time](continual-{group}.png)\n"
    (results / f"continual-{group}.md").write_text(page)
    curves = {
        f"{method}, {rule}": torch.stack([torch.tensor(line["matrix"]) for line in lines]).mean(0)
        for (method, rule), lines in found.items()
    }
    viz.forgetting(curves).savefig(results / f"continual-{group}.png", dpi=120)
    return page


def _explained(found: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    lines = ["ACC: mean accuracy on all tasks after the last. BWT: what it is above that when each was learned.", ""]
    for (method, rule), runs in found.items():
        if runs[0]["units"]:
            drift = "" if runs[0]["drift"] is None else f"; max|HHᵀ - I| {max(runs[0]['drift'].values()):.3f}"
            lines.append(f"- {method}, {rule}: rows of H after the last task {list(runs[0]['units'].values())}{drift}")
    return "\n".join(lines) + "\n"
