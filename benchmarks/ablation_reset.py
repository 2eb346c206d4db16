"""Soft reset, the rectifier and membrane batch normalisation: what each is worth, on real data, over paired seeds.

    python -m benchmarks.ablation_reset           # N-MNIST and Fashion-MNIST, T = 2 and 4: 45 minutes on 2 cores
    python -m benchmarks.ablation_reset --data cifar10 --device cuda --jobs 4

{hard, soft} x {none, MPR} x {none, MPBN}. A seed gives all eight arms the same initial weights and the same order of
samples, so that differences are paired. All arms get the same epochs and the same candidates for the learning rate; one
is chosen for each arm on a part held out of the training set, with a seed of its own; then the network is trained on
all training samples for every seed, and looks at the test set once. beta is the same in all arms, the geometric mean of
the two papers'; threshold ½; soft reset subtracts 1, as in InfLoR-SNN; without MPR the gradient is that of the
straight-through estimator clamped to (0, 1), which MPR shapes.

Every result is a line of benchmarks/results/ablation_reset.jsonl: stop it at any time, the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.ablation_report import report
from benchmarks.ablation_run import SETUPS, Run, frames, parts, settings, train

RESULTS = Path(__file__).parent / "results" / "ablation_reset.jsonl"
TUNING_SEED = 1000


def perform(run: Run, device: str) -> dict[str, Any]:
    """Train and judge once."""
    started = time.process_time(), time.perf_counter()
    indices, judged = parts(run)
    _, trainer, train_accuracy = train(run, indices, device)
    found = trainer.evaluate(judged)
    return asdict(run) | {
        "settings": settings(SETUPS[run.data]),
        "accuracy": found.accuracy,
        "loss": found.loss,
        "samples": found.samples,
        "train_accuracy": train_accuracy,
        "rate": sum(row.spikes for row in found.layers) / sum(row.neuron_steps for row in found.layers),
        "cpu_seconds": time.process_time() - started[0],
        "seconds": time.perf_counter() - started[1],
    }


def arms() -> Iterator[tuple[str, bool, bool]]:
    return itertools.product(("hard", "soft"), (False, True), (False, True))


def tuning(data: Iterable[str], steps: Iterable[int]) -> list[Run]:
    cells = itertools.product(data, steps, arms())
    return [Run("tune", d, t, *arm, TUNING_SEED, lr) for d, t, arm in cells for lr in SETUPS[d].rates]


def testing(data: Iterable[str], steps: Iterable[int], seeds: int, tuned: Iterable[Mapping[str, Any]]) -> list[Run]:
    """Seed by seed, so that a run that is stopped has all arms of the seeds it has."""
    best: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    # By loss where accuracies are equal: a held-out part of 200 has few values.
    for line in sorted(tuned, key=lambda line: (line["accuracy"], -line["loss"])):
        best[line["data"], line["steps"], line["reset"], line["mpr"], line["mpbn"]] = line
    cells = itertools.product(range(seeds), data, steps, arms())
    return [Run("test", d, t, *arm, seed, best[(d, t, *arm)]["lr"]) for seed, d, t, arm in cells]


def read(file: Path) -> dict[Run, dict[str, Any]]:
    """The results in `file` that were made with the present settings; a last line cut short is left out."""
    found = {}
    for text in file.read_text().splitlines() if file.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line["data"] in SETUPS and line["settings"] == settings(SETUPS[line["data"]]):
            found[Run(**{name: line[name] for name in Run.__dataclass_fields__})] = line
    return found


def perform_all(runs: list[Run], file: Path, jobs: int, device: str, left: int) -> dict[Run, dict[str, Any]]:
    """Do what is not in `file` yet, and return the results of all `runs`; left: how many more follow these."""
    done = read(file)
    todo = [run for run in runs if run not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not file.read_text().endswith("\n"):
        # A line cut short would swallow the next one.
        file.write_text(file.read_text() + "\n")
    print(f"{len(todo)} of {len(runs)} runs to do, results in {file}", flush=True)
    started, pool = time.monotonic(), _pool(jobs)
    try:
        waiting: dict[Future[dict[str, Any]], Run] = {pool.submit(perform, run, device): run for run in todo}
        count = 0
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                run = waiting.pop(future)
                done[run] = future.result()
                with file.open("a") as lines:
                    lines.write(json.dumps(done[run]) + "\n")
                count += 1
                eta = (time.monotonic() - started) / count * (len(todo) - count + left)
                _live(run, done[run], f"{count}/{len(todo)}, then {left}, eta {eta / 60:.0f} min")
    except BaseException:
        # What is being trained is lost; it is done anew.
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()
    return {run: done[run] for run in runs}


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Threads are set before torch is imported there.
    os.environ["OMP_NUM_THREADS"] = "1"
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


def _live(run: Run, line: Mapping[str, Any], where: str) -> None:
    parts = [run.reset, *(["MPR"] if run.mpr else []), *(["MPBN"] if run.mpbn else [])]
    text = f"{where}  {run.phase} {run.data} T={run.steps} {'+'.join(parts)} seed {run.seed} lr {run.lr:g}: "
    text += f"{line['accuracy']:.2%} in {line['seconds']:.0f} s"
    print(f"\r\x1b[K{text}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=SETUPS, default=["nmnist", "fashion"])
    parser.add_argument("--steps", nargs="+", type=int, default=[2, 4], help="T (default: 2 4)")
    parser.add_argument("--seeds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: %(default)s)")
    parser.add_argument("--report-only", action="store_true", help="table and picture of what there is")
    given = parser.parse_args(arguments)

    if not given.report_only:
        # Cached before two processes would make the same frames at once.
        for data, steps, split in itertools.product(given.data, given.steps, ("train", "test")):
            frames(data, steps, split)
        tune = tuning(given.data, given.steps)
        final = len(given.data) * len(given.steps) * 8 * given.seeds
        tuned = perform_all(tune, given.results, given.jobs, given.device, final)
        perform_all(
            testing(given.data, given.steps, given.seeds, tuned.values()), given.results, given.jobs, given.device, 0
        )
    lines = [line for run, line in read(given.results).items() if run.data in given.data and run.steps in given.steps]
    print("\n" + report(lines, given.results.with_suffix("")))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on from here")
