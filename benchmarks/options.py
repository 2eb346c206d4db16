"""What every benchmark shares on its command line, and where its results go."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import spikekit as sk
from benchmarks.measure import machine
from benchmarks.table import show

RESULTS = Path(__file__).parent / "results"


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=(description or "").split("\n\n")[0].replace("%", "%%"),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    made.add_argument("--threads", type=int, default=1, help="of torch; times are CPU time at one, wall clock above")
    made.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="for the .json, .md and .png")
    return made


def timing_options(made: argparse.ArgumentParser) -> None:
    """The options of the benchmarks that time."""
    made.add_argument("--repeats", type=int, default=11, help="calls of each contender, 3 when quick")
    made.add_argument("--budget", type=float, default=20.0, help="CPU seconds a contender and size, 2 when quick")
    made.add_argument("--allocator", choices=("default", "keep"), default="default", help="keep: see README.md")


def begin(asked: argparse.Namespace, benchmark: str) -> dict[str, Any]:
    """Apply the options; the head of the report, with the machine as it was before the run."""
    torch.set_num_threads(asked.threads)
    if getattr(asked, "allocator", "default") == "keep":
        sk.tune_allocator()
    if asked.quick and hasattr(asked, "repeats"):
        asked.repeats, asked.budget = min(asked.repeats, 3), min(asked.budget, 2.0)
    return {
        "benchmark": benchmark,
        "quick": asked.quick,
        "clock": "cpu" if asked.threads == 1 else "wall",
        "allocator": getattr(asked, "allocator", "default"),
        "machine": machine(),
    }


def finish(asked: argparse.Namespace, report: dict[str, Any], draw: Callable[[dict[str, Any], Path], None]) -> None:
    """Print the report and write it as JSON, Markdown and a picture."""
    report["machine"]["load_after"] = [round(value, 2) for value in os.getloadavg()]
    text = show(report)
    print(text)
    kept = "-keep" if report["allocator"] == "keep" else ""
    stem = f"{report['benchmark']}-{asked.threads}t{kept}{'-quick' if asked.quick else ''}"
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / stem
    file.with_suffix(".json").write_text(json.dumps(report, default=vars, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(f"# {stem}\n\n{text}\n", encoding="utf-8")
    draw(report, file.with_suffix(".png"))
    print(f"\nwritten: {file}.json, .md, .png")
