"""One LIF layer and two small networks on a GPU, beside SpikingJelly and snnTorch and the bandwidth of memory.

Every call is timed by CUDA events after the second-level cache was overwritten; medians. The bound is the traffic of a
layer at the speed of `copy_` on a buffer of the same size in the same run: a training step must move five times the
drive (x twice, spikes, their gradient, that of x), inference and a copy twice. A training step of a network is forward,
loss, backward and Adam, once launched call by call and once recorded as a CUDA graph.

It needs a GPU. `--dry-run` runs the same code on tiny sizes on the CPU, our kernels in Triton's interpreter: it shows
that the benchmark works, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import OURS, SNNTORCH, SPIKINGJELLY, Contender, Layer
from benchmarks.measure import one_line
from benchmarks.networks import build
from benchmarks.workloads import Workload, conv, mlp
from spikekit.ops import gpu, paths

RESULTS = Path(__file__).parent / "results"
CONTENDERS = (OURS, SPIKINGJELLY, SNNTORCH)
# Traffic in copies: a copy reads and writes the drive once.
COPIES = {"training": 2.5, "inference": 1.0}
BATCH = 32


class Clock:
    """Median seconds of a call on the GPU, or on the CPU for a dry run."""

    def __init__(self, device: str, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        # Larger than any second-level cache.
        self._flush = torch.empty(1 << 28 if device == "cuda" else 1, dtype=torch.uint8, device=device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Three calls to warm up and compile, then `repeats` that count."""
        for _ in range(3 if self.device == "cuda" else 1):
            call()
        return statistics.median(self._one(call) for _ in range(self.repeats))

    def _one(self, call: Callable[[], object]) -> float:
        if self.device == "cpu":
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # Also gives the CPU a lead, so that short kernels are not timed by their launches.
        self._flush.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def attempt(seconds: Callable[[], float]) -> float | str:
    """Seconds, or why there are none: a peer that is missing or fails, memory that does not suffice."""
    try:
        return seconds()
    except Exception as error:
        return one_line(error)
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def layer_call(layer: Layer, x: Tensor, weight: Tensor, mode: str) -> Callable[[], object]:
    def train() -> None:
        torch.autograd.grad(layer(x), x, weight)

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    return train if mode == "training" else infer


def layer_seconds(contender: Contender, x: Tensor, weight: Tensor, mode: str, clock: Clock) -> float:
    """One call of the contender's layer. Raises what the contender raises."""
    with torch.device(clock.device):
        layer = contender.layer()
    return clock.seconds(layer_call(layer, x, weight, mode))


def of(contender: Contender, clock: Clock, seconds: Callable[[], float]) -> float | str:
    """Seconds of a contender, or why there are none.

    Some peers make constants on the default device as they run. That it is the GPU costs every call of torch some time
    in Python, so they are given it only where they fail without.
    """
    found = attempt(seconds)
    if isinstance(found, str) and contender is not OURS:
        with torch.device(clock.device):
            found = attempt(seconds)
    return found


def layers(clock: Clock, steps: Sequence[int], neurons: Sequence[int], dtypes: Sequence[torch.dtype]) -> list[Any]:
    """One LIF layer: every mode, dtype and size."""

    def row(mode: str, dtype: torch.dtype, m: int, t: int) -> dict[str, Any]:
        x = torch.randn(t, BATCH, m // BATCH, device=clock.device).mul_(0.5).add_(0.15).to(dtype)
        weight, target = torch.randn_like(x), torch.empty_like(x)
        bound = clock.seconds(lambda: target.copy_(x)) * COPIES[mode]
        leaf = x.clone().requires_grad_(mode == "training")
        found: dict[str, float | str] = {"bound": bound}
        differ = {}
        for contender in CONTENDERS:
            seconds = partial(layer_seconds, contender, leaf, weight, mode, clock)
            found[contender.name] = of(contender, clock, seconds)
            if not isinstance(found[contender.name], str):
                with torch.no_grad(), torch.device(clock.device):
                    differ[contender.name] = float((contender.layer()(x) != contender.twin()(x)).float().mean())
        name = str(dtype).removeprefix("torch.")
        return {"case": f"{mode} {name} T={t} M={m}", "seconds": found, "spikes_that_differ_from_the_twin": differ}

    rows = []
    for mode in COPIES:
        for dtype in dtypes:
            for m in neurons:
                for t in steps:
                    # Drive, spikes, two gradients and a peer's membranes must fit.
                    if t * m <= 1 << 28:
                        rows.append(show(row(mode, dtype, m, t)))
    return rows


def network_step(contender: Contender, task: Workload, clock: Clock, graph: bool) -> float:
    """One training step of the contender's network. Raises what the contender raises."""
    with torch.device(clock.device):
        network = build(contender, task)
        x, labels = network.lay_out(task.x), task.labels
    optimiser = torch.optim.Adam(network.parameters(), capturable=clock.device == "cuda")

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        network.loss(x, labels).backward()
        optimiser.step()

    if not graph:
        return clock.seconds(step)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    return clock.seconds(recorded.replay)


def networks(clock: Clock, tasks: Sequence[Workload]) -> list[Any]:
    """Training steps of the networks, with and without CUDA graphs."""
    rows = []
    for task in tasks:
        stages = [stage.to(clock.device) for stage in task.stages]
        here = Workload(task.name, task.x.to(clock.device), task.labels.to(clock.device), stages)
        for graph in (False, True) if clock.device == "cuda" else (False,):
            seconds = {c.name: of(c, clock, partial(network_step, c, here, clock, graph)) for c in CONTENDERS}
            rows.append(show({"case": f"{task.name} step{', CUDA graph' if graph else ''}", "seconds": seconds}))
    return rows


def show(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row; the row."""
    seconds = row["seconds"]
    texts = [f"{name} {value * 1e3:.3f} ms" if isinstance(value, float) else f"{name}: {value}"
             for name, value in seconds.items()]  # fmt: skip
    if "bound" in seconds and isinstance(seconds[OURS.name], float):
        texts.append(f"{seconds['bound'] / seconds[OURS.name]:.0%} of the copy bandwidth")
    print(f"{row['case']}: {', '.join(texts)}", flush=True)
    return row


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("triton", "spikingjelly", "snntorch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter")
    options.add_argument("--repeats", type=int, default=21)
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="for gpu.json")
    asked = options.parse_args(arguments)
    if not (asked.dry_run or torch.cuda.is_available()):
        raise SystemExit("benchmarks.gpu needs a GPU, and torch sees none; --dry-run runs it on the CPU, for a test")
    # Weights are scaled on the CPU, by the CPU's kernels.
    tasks = [mlp(3, 1), conv(2, 1)] if asked.dry_run else [mlp(), conv()]
    if asked.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
        paths.set_path("triton")
        clock = Clock("cpu", 1)
    else:
        clock = Clock("cuda", asked.repeats)
    refusal = gpu.refusal()
    if refusal:
        raise SystemExit(f"benchmarks.gpu measures our Triton kernels, which cannot run here: {refusal}")
    name = torch.cuda.get_device_name() if clock.device == "cuda" else "dry run on the CPU: these times mean nothing"
    print(name, versions(), flush=True)
    if asked.dry_run:
        found = layers(clock, (4,), (1 << 7,), (torch.float32, torch.bfloat16))
    else:
        sizes = [1 << power for power in (16, 18, 20, 22, 24)]
        found = layers(clock, (4, 16, 100), sizes, (torch.float32, torch.bfloat16))
    found += networks(clock, tasks)
    asked.results.mkdir(parents=True, exist_ok=True)
    file = asked.results / f"gpu{'-dry-run' if asked.dry_run else ''}.json"
    report = {"device": name, "versions": versions(), "repeats": clock.repeats, "rows": found}
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {file}")


if __name__ == "__main__":
    main()
