"""Gradient norms through depth: EMS blocks against MS blocks and against a plain chain, 10, 18 and 34 layers deep.

python -m benchmarks.ems_gradients -> benchmarks/results/ems_gradients.json and docs/ems_gradients.png

The paper's claim (Su et al. 2023) is that gradients keep their size through EMS blocks, neither vanishing nor
exploding. Measured: the norm of the gradient of the loss at the input of every block of the backbone, divided by that
at the backbone's output; on N-MNIST mosaic where N-MNIST is found, on random events else. What enters the last stage
also feeds the head directly. "plain": the same branches without any shortcut, normalised to γ = ½ at their ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.datasets import NMNIST, NMNISTMosaic
from spikekit.detect import DetectionLoss, Grid, pad_boxes
from spikekit.models import EMSYOLO, EMSBlock
from spikekit.models.ems import ems_yolo

DEPTHS = (10, 18, 34)
KINDS = ("ems", "ms", "plain")
RESULTS = Path(__file__).parent / "results" / "ems_gradients.json"
PICTURE = Path(__file__).parent.parent / "docs" / "ems_gradients.png"


def network(depth: int, kind: str, width: float, seed: int) -> EMSYOLO:
    torch.manual_seed(seed)
    net = ems_yolo(depth, in_channels=2, classes=10, width=width, shortcut="ms" if kind == "ms" else "ems")
    if kind == "plain":
        for block in blocks(net):
            block.forward = block.branch.forward  # type: ignore[method-assign]
            # A fifth of that, with which a residual branch starts, would leave the next neurons silent.
            nn.init.constant_(block.branch[-1].weight, 0.5)  # type: ignore[arg-type]
    return net


def blocks(net: EMSYOLO) -> list[EMSBlock]:
    return [block for part in (net.middle, net.deep) for block in part.modules() if isinstance(block, EMSBlock)]


def gradients(net: EMSYOLO, x: Tensor, boxes: Tensor) -> list[float]:
    """Norm of the loss's gradient at the input of each block of the backbone, and last at the backbone's output."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for tensor in (*inputs, *((output,) if module is found[-1] else ())):
            tensor.retain_grad()
            seen.append(tensor)

    found = blocks(net)
    hooks = [block.register_forward_hook(keep) for block in found]
    try:
        grid = Grid.of(net, (x.shape[-1], x.shape[-2]))
        DetectionLoss(grid)(net.train()(x), boxes).backward()
    finally:
        for hook in hooks:
            hook.remove()
    return [0.0 if tensor.grad is None else float(tensor.grad.norm()) for tensor in seen]


def batch(size: int) -> tuple[Tensor, Tensor, str]:
    """X [T, B, 2, 128, 128], boxes [B, M, 5] and the data's name."""
    if NMNIST.available():
        data = NMNISTMosaic("val", count=size)
        x, boxes = next(iter(data.loader(size)))
        return x, boxes, data.name
    x = (torch.rand(4, size, 2, 128, 128, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    return x, pad_boxes([torch.tensor([[0.0, 40, 40, 60, 66]])] * size), "random events"


def summary(runs: Iterable[list[float]]) -> dict[str, Any]:
    """Of several seeds: the median norm at each block over that at the output, and the mean factor a block."""
    columns = list(zip(*([value / run[-1] for value in run] for run in runs), strict=True))
    relative = [median(column) for column in columns]
    steps = [a / b for a, b in pairwise(relative) if a > 0 and b > 0]
    return {
        "relative": relative,
        "first": relative[0],
        "factor a block": geometric_mean(steps) if steps else 0.0,
        "spread": max(relative) / max(min(relative), 1e-30),
    }


def measure(seeds: int, width: float, size: int) -> dict[str, Any]:
    x, boxes, name = batch(size)
    table: dict[str, Any] = {"data": name, "width": width, "batch": size, "seeds": seeds, "rows": {}}
    for depth in DEPTHS:
        for kind in KINDS:
            runs = [gradients(network(depth, kind, width, seed), x, boxes) for seed in range(seeds)]
            row = summary(runs)
            table["rows"][f"{kind} {depth}"] = row
            print(
                f"{kind:<6}{depth:>3}: first block {row['first']:.3g} of the output's, "
                f"{row['factor a block']:.3f} a block, largest over smallest {row['spread']:.3g}",
                flush=True,
            )
    return table


def draw(table: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for ax, depth in zip(figure.subplots(1, len(DEPTHS), sharey=True, squeeze=False)[0], DEPTHS, strict=True):
        for kind in KINDS:
            values = table["rows"][f"{kind} {depth}"]["relative"]
            ax.semilogy(range(len(values)), [max(value, 1e-12) for value in values], "o-", ms=3, label=kind)
        ax.set(title=f"EMS-Res{depth}", xlabel="block of the backbone (last: its output)")
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("norm of the gradient / at the output")
    figure.axes[0].legend()
    figure.suptitle(f"At initialisation, {table['data']}, width {table['width']}, median of {table['seeds']} seeds")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args(arguments)
    table = measure(given.seeds, given.width, given.batch)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(table, indent=1))
    draw(table, given.picture)
    print(f"written: {RESULTS}, {given.picture}")


if __name__ == "__main__":
    main()
