"""Gradient norms through depth: EMS blocks against MS blocks and against a plain chain, 10, 18 and 34 layers deep.

python -m benchmarks.ems_gradients -> benchmarks/results/ems_gradients.json and docs/ems_gradients.png

The paper's claim (Su et al. 2023) is that gradients keep their size through EMS blocks, neither vanishing nor
exploding. Measured: the norm of the gradient of the loss at the input of every block of the backbone, divided by that
at the backbone's output, before and after a short training; on N-MNIST mosaic where N-MNIST is found, on random events
else. What enters the last stage also feeds the head directly. "plain": the same branches without any shortcut,
normalised to γ = ½ at their ends. Training: AdamW at 8e-3, falling to 0 along a cosine, the loss of the recipe
`ems_mosaic_small`, batches of 16.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from itertools import pairwise, product
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.datasets import NMNIST, BoxDataset, NMNISTMosaic
from spikekit.detect import DetectionLoss, Grid
from spikekit.models import EMSYOLO, EMSBlock
from spikekit.models.ems import ems_yolo

DEPTHS = (10, 18, 34)
KINDS = ("ems", "ms", "plain")
STATES = {"start": "at the start", "trained": "after {epochs} epochs"}
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


def scenes(split: str, count: int) -> BoxDataset:
    """Scenes of N-MNIST mosaic, or random events, all with one box."""
    if NMNIST.available():
        return NMNISTMosaic(split, count=count)
    frames = torch.rand(count, 4, 2, 128, 128, generator=torch.Generator().manual_seed(0)) < 0.05
    boxes = [torch.tensor([[0.0, 40, 40, 60, 66]])] * count
    return BoxDataset("random events", NMNISTMosaic.kinds, frames.to(torch.uint8), boxes)


def train(net: EMSYOLO, data: BoxDataset, epochs: int, seed: int) -> tuple[float, float]:
    """Train in place: the mean loss of the first epoch and of the last."""
    loss = DetectionLoss(Grid.of(net, (128, 128)), box=0.2, obj=1.0, cls=4.0)
    loader = data.loader(16, shuffle=True, seed=seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=8e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    means = []
    net.train()
    for _ in range(epochs):
        losses = []
        for x, boxes in loader:
            value = loss(net(x), boxes)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(value.item())
        means.append(mean(losses))
    return means[0], means[-1]


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


def measure(seeds: int, width: float, size: int, epochs: int, count: int) -> dict[str, Any]:
    """Rows "ems 10" and so on, of `STATES`. epochs: of training on `count` scenes, 0 for none."""
    judged, data = scenes("val", size), scenes("train", count) if epochs else None
    x, boxes = next(iter(judged.loader(size)))
    table: dict[str, Any] = {"data": judged.name, "width": width, "batch": size, "seeds": seeds}
    table |= {"epochs": epochs, "scenes": count, **{state: {} for state in STATES}}
    for depth, kind in product(DEPTHS, KINDS):
        runs: dict[str, list[list[float]]] = {state: [] for state in STATES}
        losses = []
        for seed in range(seeds):
            net = network(depth, kind, width, seed)
            runs["start"].append(gradients(net, x, boxes))
            if data is not None:
                net.zero_grad()
                losses.append(train(net, data, epochs, seed))
                net.zero_grad()
                runs["trained"].append(gradients(net, x, boxes))
        for state, found in runs.items():
            if not found:
                continue
            row = summary(found) | ({"losses": losses} if state == "trained" else {})
            table[state][f"{kind} {depth}"] = row
            print(
                f"{state:<8}{kind:<6}{depth:>3}: first block {row['first']:.3g} of the output's, "
                f"{row['factor a block']:.3f} a block, largest over smallest {row['spread']:.3g}",
                flush=True,
            )
    return table


def draw(table: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    states = [state for state in STATES if table[state]]
    figure = Figure(figsize=(10, 0.6 + 2.8 * len(states)), layout="constrained")
    axes = figure.subplots(len(states), len(DEPTHS), sharey=True, squeeze=False)
    for row, state in zip(axes, states, strict=True):
        for ax, depth in zip(row, DEPTHS, strict=True):
            for kind in KINDS:
                values = table[state][f"{kind} {depth}"]["relative"]
                ax.semilogy(range(len(values)), [max(value, 1e-12) for value in values], "o-", ms=3, label=kind)
            ax.set(title=f"EMS-Res{depth}, {STATES[state].format(**table)}")
            ax.grid(alpha=0.3)
        row[0].set_ylabel("norm of the gradient / at the output")
    for ax in axes[-1]:
        ax.set_xlabel("block of the backbone (last: its output)")
    figure.axes[0].legend()
    figure.suptitle(f"{table['data']}, width {table['width']:g}, median of seeds: {table['seeds']}")
    figure.savefig(path, dpi=90)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=6, help="of training, 0 for none")
    parser.add_argument("--scenes", type=int, default=300, help="to train on")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args(arguments)
    table = measure(given.seeds, given.width, given.batch, given.epochs, given.scenes)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(table, indent=1))
    draw(table, given.picture)
    print(f"written: {given.results}, {given.picture}")


if __name__ == "__main__":
    main()
