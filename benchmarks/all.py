"""Every benchmark at one thread and at two, and one table of the goals: met or NOT met.

Each runs in a process of its own, because OMP_NUM_THREADS is read once. Memory is measured at one thread only, and the
GPU's benchmark where there is a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.goals import GOALS, Finding
from benchmarks.measure import Timing
from benchmarks.options import RESULTS
from benchmarks.table import BUSY, NOTHING, busy, grid

ROOT = Path(__file__).resolve().parent.parent
ONCE = ("memory", "gpu")
NAMES = ("lif", "mlp", "conv", "mpbn", "density", "scale", "memory", "gpu")


def present(name: str) -> bool:
    """Whether this benchmark is there, and for the GPU's, whether a GPU is."""
    return importlib.util.find_spec(f"benchmarks.{name}") is not None and (name != "gpu" or torch.cuda.is_available())


def run(name: str, threads: int, results: Path, quick: bool) -> str | None:
    """Run one benchmark in a process of its own; what went wrong, or None."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--results", str(results)]
    if name != "gpu":
        command += ["--threads", str(threads), *(["--quick"] if quick else [])]
    print(f"\n$ {' '.join(command[1:])}", flush=True)
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths}
    code = subprocess.run(command, env=environment).returncode
    return f"{name}, {threads} thread(s): exit code {code}" if code else None


def load(file: Path) -> Any:
    """A report as the benchmark wrote it."""

    def timing(found: dict[str, Any]) -> Any:
        return Timing(**found) if found.keys() == {"cpu", "wall", "repeats"} else found

    return json.loads(file.read_text(encoding="utf-8"), object_hook=timing)


def reports(results: Path, names: Sequence[str], threads: Sequence[int], quick: bool) -> dict[tuple[str, int], Any]:
    """The reports that are there, by benchmark and threads."""
    files = {(n, t): results / f"{n}-{t}t{'-quick' if quick else ''}.json" for n in names for t in threads}
    return {key: load(file) for key, file in files.items() if file.exists()}


def findings(found: Mapping[tuple[str, int], Any]) -> dict[tuple[str, str], dict[int, Finding]]:
    """What each report says about each goal: (case, goal) to threads to finding."""
    table: dict[tuple[str, str], dict[int, Finding]] = {}
    for (name, threads), report in found.items():
        for finding in GOALS[name](report) if name in GOALS else ():
            table.setdefault((finding.case, finding.goal), {})[threads] = finding
    return table


def summary(found: Mapping[tuple[str, int], Any], threads: Sequence[int], failed: Sequence[str]) -> str:
    """The table of goals as Markdown, and under what conditions it was measured."""
    table = findings(found)
    clocks = [f"{t} thread{'s' if t > 1 else ''} ({'CPU time' if t == 1 else 'wall clock'})" for t in threads]
    rows = [
        [case, goal, *(str(by_threads[t]) if t in by_threads else NOTHING for t in threads)]
        for (case, goal), by_threads in table.items()
    ]
    verdicts = [finding.met for by_threads in table.values() for finding in by_threads.values()]
    lines = ["# Goals", ""]
    if any(report["quick"] for report in found.values()):
        lines += ["**QUICK: sizes too small to mean anything.**", ""]
    lines += [
        f"{verdicts.count(True)} met, {verdicts.count(False)} NOT met, {verdicts.count(None)} not measured. "
        "The fastest PyTorch peer is the fastest of snnTorch, SpikingJelly, norse and sinabs in that row.",
        "",
        *grid(["", "goal", *clocks], rows),
        *(f"- FAILED: {line}" for line in failed),
        *([""] if failed else []),
    ]
    for (name, count), report in found.items():
        machine = report["machine"]
        versions = ", ".join(f"{peer} {version}" for peer, version in machine["versions"].items())
        lines.append(
            f"- {name}, {count} thread(s){', ' + BUSY if busy(machine) else ''}: {machine['cpu']}, "
            f"load {machine['load']} before and {machine.get('load_after', NOTHING)} after; {versions}"
        )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.all",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch and OpenMP, one run for each")
    options.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="these benchmarks alone")
    options.add_argument("--table", action="store_true", help="run nothing: the table of the results that are there")
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="for all that is written")
    asked = options.parse_args(arguments)
    names = [name for name in asked.only if present(name)]
    failed = []
    if not asked.table:
        for threads in asked.threads:
            for name in names:
                if name in ONCE and threads != asked.threads[0]:
                    continue
                if problem := run(name, threads, asked.results, asked.quick):
                    failed.append(problem)
    text = summary(reports(asked.results, names, asked.threads, asked.quick), asked.threads, failed)
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / f"summary{'-quick' if asked.quick else ''}.md"
    file.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten: {file}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
