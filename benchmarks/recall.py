"""Memory over gaps, on synthetic tasks: the spiking model with and without astrocytes, an LSTM, a transformer.

Every model has as many parameters, sees the same sequences and is given equal time. The gap grows while a model masters
it (the same rule for all); at the end each is examined at every gap. The membranes of the spiking models are fixed at
decays of at most 0.9, a time constant of 9.5 steps, unless `--membranes learned`. `python -m benchmarks.recall --out
recall.jsonl` writes a line a run and does not repeat those that are there.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.language_models import NAMES, make
from benchmarks.lines import append, read
from benchmarks.table import mean_error
from spikekit.datasets import MNIST, MemoryTask, SequentialImages
from spikekit.datasets.memory_tasks import IGNORE
from spikekit.language.score import token_loss
from spikekit.models import AstroLMConfig

GAPS = (10, 20, 50, 100, 200, 500, 1000)
TASKS = {
    "delayed-recall": MemoryTask("delayed-recall", 10),
    "copy": MemoryTask("copy", 10, items=3),
    "selective-copy": MemoryTask("selective-copy", 10, items=3),
}
IMAGES = {"smnist": False, "psmnist": True}
Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Run:
    """One training; the keys that a line of results is known by."""

    task: str
    model: str
    seed: int
    seconds: float
    width: int
    layers: int
    batch: int
    lr: float
    longest: int
    membranes: str
    device: str
    threads: int


def images(permuted: bool, split: str) -> Draw:
    """Batches of images, pixel by pixel in 16 grey levels; the class is asked at the last pixel."""
    sequences = SequentialImages(MNIST(split), permuted=permuted)  # type: ignore[arg-type]

    def draw(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        indices = torch.randint(len(sequences), (size,), generator=generator)
        x = sequences.tokens(indices)
        y = torch.full_like(x, IGNORE)
        y[-1] = sequences.labels[indices]
        return x, y

    return draw


def examine(net: nn.Module, draw: Draw, device: str, count: int = 512) -> float:
    """The part of the answers that is right, on the same `count` sequences for every model."""
    generator, right, asked = torch.Generator().manual_seed(2**31), 0, 0
    net.eval()
    with torch.no_grad():
        for _ in range(count // 64):
            x, y = (part.to(device) for part in draw(64, generator))
            where = y != IGNORE
            right += int((net(x).argmax(-1) == y)[where].sum())
            asked += int(where.sum())
    net.train()
    return right / asked


def train(run: Run) -> dict[str, Any]:
    """Train one model and examine it; what a line of results holds."""
    torch.manual_seed(run.seed)
    task = TASKS.get(run.task)
    draw = images(IMAGES[run.task], "train") if task is None else task.batch
    vocabulary = 16 if task is None else task.vocabulary
    config = AstroLMConfig(
        vocabulary, run.width, run.layers, decays=(0.01, 0.9), learn_decays=run.membranes == "learned"
    )
    net = make(run.model, config).to(run.device)
    optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=run.lr, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(run.seed)
    gap, mastered, step, spent = 10, 0.0, 0, 0.0
    clock = time.process_time if (run.threads, run.device) == (1, "cpu") else time.perf_counter
    while spent < run.seconds:
        began = clock()
        part = spent / run.seconds
        for group in optimizer.param_groups:
            group["lr"] = run.lr * min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * part)))
        if task is not None:
            # Shorter ones too, or what was learned of them is lost: half of the time the longest, else any length.
            exponent, other = torch.rand(2, generator=generator).tolist()
            now = replace(task, gap=gap if other < 0.5 else round(gap**exponent))
            draw = now.batch
        x, y = (part.to(run.device) for part in draw(run.batch, generator))
        logits = net(x)
        loss = token_loss(logits, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        where = y != IGNORE
        if task is None or now.gap == gap:
            right = float((logits.argmax(-1) == y)[where].float().mean())
            mastered = 0.9 * mastered + 0.1 * right
        if task is not None and mastered > 0.9 and gap < run.longest:
            gap, mastered = min(run.longest, math.ceil(1.5 * gap)), 0.0
        step += 1
        spent += clock() - began
        if step % 20 == 0 and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{run.task} {run.model} {run.seed}: {part:.0%}  gap {gap}  right {mastered:.2f}")
    parameters = sum(p.numel() for p in net.parameters())
    found: dict[str, Any] = {"parameters": parameters, "steps": step, "trained_gap": gap, "right_at_end": mastered}
    if task is None:
        found["accuracy"] = {"test": examine(net, images(IMAGES[run.task], "test"), run.device, 2048)}
    else:
        gaps = [gap for gap in GAPS if gap <= run.longest]
        found["accuracy"] = {str(gap): examine(net, replace(task, gap=gap).batch, run.device) for gap in gaps}
    return asdict(run) | found


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a task and model, mean accuracy ± standard error over seeds at each gap."""
    rows = []
    groups = sorted({(line["task"], NAMES.index(line["model"])) for line in lines})
    for task, model in groups:
        of = [line["accuracy"] for line in lines if (line["task"], line["model"]) == (task, NAMES[model])]
        cells = []
        for gap in of[0]:
            cells.append(f"{gap}: {mean_error([100 * accuracy[gap] for accuracy in of], 1)}")
        rows.append(f"| {task} | {NAMES[model]} ({len(of)}) | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.recall", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"of {', '.join((*TASKS, *IMAGES))}")
    parser.add_argument("--models", default="astro,frozen,lstm,transformer", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="of training a run: CPU time at one thread, else wall clock"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--longest", type=int, default=1000, help="gap")
    parser.add_argument("--membranes", default="fixed", choices=("fixed", "learned"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("recall.jsonl"), help="one line a run")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    same = ("seconds", "width", "layers", "batch", "lr", "longest", "membranes", "device", "threads")
    settings = {name: getattr(given, name) for name in same}
    for seed, task, model in itertools.product(given.seeds.split(","), given.tasks.split(","), given.models.split(",")):
        run = Run(task, model, int(seed), **settings)
        if not any(asdict(run).items() <= line.items() for line in read(given.out)):
            append(given.out, train(run))
    print(table(read(given.out)))


if __name__ == "__main__":
    main()
