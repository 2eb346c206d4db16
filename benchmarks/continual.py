"""Continual learning: HLOP beside plain training, GPM, EWC and replay, by BPTT, OTTT and DSR, on the field's protocols.

    python -m benchmarks.continual --protocol pmnist --methods plain,hlop --rules bptt,ottt,dsr --seeds 0
    python -m benchmarks.continual --protocol pmnist --subset 5000           # 5,000 images a task: minutes a run
    python -m benchmarks.continual --protocol fashion-class --report-only
    python -m benchmarks.continual --protocol pmnist --methods hlop --device cuda --no-report &     # several at once

Every run is a file of benchmarks/results/continual/<protocol>/, every run under way a folder there: stop it at any
time, the same command goes on, in the midst of a task. The page is benchmarks/results/continual-<protocol>.md, with a
picture.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.continual_report import report
from benchmarks.continual_runs import METHODS, RULES, SETUPS, Run, course, is_of, settings
from spikekit import continual as cl
from spikekit.errors import SpikekitError

RESULTS = Path(__file__).parent / "results"


class Live:
    """One line that says where the run is, a few times a second on a terminal, and once a minute elsewhere."""

    def __init__(self, run: Run, where: str, clock: Callable[[], object]) -> None:
        self.run, self.where, self.clock = run, where, clock
        self.began, self.steps, self.next = time.monotonic(), 0, 0.0
        self.terminal = sys.stdout.isatty()

    def __call__(self, moment: cl.Moment) -> None:
        self.steps += 1
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + (0.3 if self.terminal else 60)
        self.clock()
        setup = SETUPS[self.run.protocol]
        rate = self.steps / max(now - self.began, 1e-9)
        done = ((moment.task - 1) * setup.epochs + moment.epoch - 1) * moment.batches + moment.batch
        left = (len(moment.matrix) * setup.epochs * moment.batches - done) / rate
        text = f"{self.where} {self.run.group} {self.run.name}  task {moment.task}/{len(moment.matrix)}"
        text += f"  epoch {moment.epoch}/{setup.epochs}  batch {moment.batch}/{moment.batches}  loss {moment.loss:.3f}"
        if moment.task > 1:
            known = moment.matrix[: moment.task - 1, : moment.task - 1]
            text += f"  mean of the tasks so far {100 * float(cl.curve(known)[-1]):.1f} %"
        text += f"  {rate:.1f} steps/s  eta {left / 60:.0f} min"
        print(f"\r\x1b[K{text}" if self.terminal else text, end="" if self.terminal else "\n", flush=True)


def perform(run: Run, results: Path, where: str, device: str) -> dict[str, Any]:
    """Train and judge once, or go on with it, or read what is there."""
    folder = results / "continual" / run.group
    file, under_way = folder / f"{run.name}.json", folder / run.name
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        if is_of(found, run):
            return found
    under_way.mkdir(parents=True, exist_ok=True)
    clock = under_way / "seconds"
    before = float(clock.read_text()) if clock.exists() else 0.0
    started = time.process_time()

    def note_time() -> float:
        seconds = before + time.process_time() - started
        _replace(clock, str(seconds))
        return seconds

    walk = course(run, under_way, device)
    matrix = walk.run(Live(run, where, note_time))
    found = {
        "protocol": run.protocol,
        "method": run.method,
        "rule": run.rule,
        "seed": run.seed,
        "subset": run.subset,
        "settings": settings(run),
        "matrix": matrix.tolist(),
        "cpu_seconds": note_time(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "units": {name: len(space.rows) for name, space in getattr(walk.method, "spaces", {}).items()},
        "drift": walk.method.drift if isinstance(walk.method, cl.HLOP) else None,
    }
    _replace(file, json.dumps(found))
    shutil.rmtree(under_way)
    return found


def _replace(file: Path, text: str) -> None:
    """Write `file` whole or not at all: others may read it meanwhile, and the process may be killed."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text)
    os.replace(part, file)


def _counts(text: str) -> list[int]:
    """Seeds such as 0,1,2."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 0:
        raise ValueError
    return found


def _images(text: str) -> int:
    """A number of images."""
    if (count := int(text)) < 1:
        raise ValueError
    return count


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=SETUPS, default="pmnist")
    parser.add_argument("--methods", default="plain,hlop,gpm,ewc,replay", help="(default: %(default)s)")
    parser.add_argument("--rules", default="bptt", help="of bptt,ottt,dsr (default: %(default)s)")
    parser.add_argument("--seeds", type=_counts, default="0", help="such as 0,1,2 (default: %(default)s)")
    parser.add_argument("--subset", type=_images, nargs="?", const=5000, help="images of a task (5000 if no number)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    parser.add_argument("--report-only", action="store_true", help="page and picture of what there is")
    parser.add_argument("--no-report", action="store_true", help="results alone, where several processes make them")
    given = parser.parse_args(arguments)
    chosen = {"methods": given.methods.split(","), "rules": given.rules.split(",")}
    for what, names in (("methods", METHODS), ("rules", RULES)):
        if unknown := sorted(set(chosen[what]) - set(names)):
            parser.error(f"--{what}: no {unknown}; there are {','.join(names)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    if os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(1)
    runs = [
        Run(given.protocol, method, rule, seed, given.subset)
        for seed, rule, method in itertools.product(given.seeds, chosen["rules"], chosen["methods"])
    ]
    for number, run in enumerate(runs if not given.report_only else (), 1):
        found = perform(run, given.results, f"{number}/{len(runs)}", given.device)
        matrix = torch.tensor(found["matrix"], dtype=torch.float64)
        acc, bwt = 100 * cl.average_accuracy(matrix), 100 * cl.backward_transfer(matrix)
        end = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{end}{number}/{len(runs)} {run.group} {run.name}: ACC {acc:.2f} %, BWT {bwt:+.2f}", flush=True)
        if not given.no_report:
            report(given.results, run.group)
    if not given.no_report:
        print("\n" + report(given.results, Run(given.protocol, "", "", 0, given.subset).group))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")
    except SpikekitError as error:
        sys.exit(f"error: {error}")
