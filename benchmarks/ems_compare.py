"""EMS-YOLO on N-MNIST mosaic: EMS against MS shortcuts, against the ANN of equal shape, and T = 1, 2, 4.

python -m benchmarks.ems_compare --out benchmarks/results/ems_compare -> runs.jsonl, a line a run, and the table

Everything but shortcut, neuron and T is that of the recipe `ems_mosaic_small`, chosen for EMS at T = 4 by test scenes 0
to 199; judged are scenes 200 to 599, once, with the averaged weights of the last epoch. The ANN sees the mean of the
T = 4 frames, once. Stopped and called again, it goes on where it was and repeats no line. Energy: see
`spikekit.export.cost.account`, means of 64 of the scenes judged.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.lines import append, read
from benchmarks.table import NOTHING, grid, mean_error
from spikekit.datasets import BoxDataset, NMNISTMosaic
from spikekit.detection import DetectionRecipe, judge
from spikekit.export.cost import CMOS_45NM, account
from spikekit.export.cost.energy import estimate
from spikekit.models import EMSYOLO
from spikekit.recipe import read_recipe
from spikekit.train import Trainer, seed_all

ARMS: dict[str, tuple[int, dict[str, Any]]] = {
    "EMS, T = 4": (4, {}),
    "EMS, T = 2": (2, {}),
    "EMS, T = 1": (1, {}),
    "MS, T = 4": (4, {"shortcut": "ms"}),
    "ANN": (4, {"ann": True}),
}
"""T of the frames, and what of the model differs."""
BASE = "EMS, T = 4"
CHOSEN_BY = 200
"""The test scenes that the recipe's settings were chosen by, and that nothing here is judged by."""


@dataclass(frozen=True)
class Run:
    """One training; what a line of results is known by."""

    arm: str
    seed: int
    epochs: int
    scenes: int
    width: float
    judged: int

    @property
    def folder(self) -> str:
        name = "".join(c for c in self.arm.lower() if c.isalnum())
        return f"{name}-{self.seed}-{self.epochs}-{self.scenes}-{self.width:g}"

    def recipe(self) -> DetectionRecipe:
        steps, model = ARMS[self.arm]
        base = read_recipe("ems_mosaic_small")
        if not isinstance(base, DetectionRecipe):
            raise TypeError("ems_mosaic_small is no recipe of a detector")
        model = {**base.model, "width": self.width, **model}
        changed = replace(base, steps=steps, model=model, seed=self.seed, epochs=self.epochs, scenes=self.scenes)
        return changed.resolved()


class OneFrame(nn.Module):
    """The ANN's view: the mean of all frames, once."""

    temporal = True

    def __init__(self, net: EMSYOLO) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C, H, W] -> [1, B, N, 5 + classes]."""
        y: Tensor = self.net(x.mean(0, keepdim=True))
        return y


def unseen(steps: int, count: int) -> BoxDataset:
    """`count` test scenes behind those that settings were chosen by."""
    data = NMNISTMosaic("test", count=CHOSEN_BY + count, steps=steps)
    return BoxDataset(data.name, data.classes, data.frames[CHOSEN_BY:], data.boxes[CHOSEN_BY:])


def train(run: Run, folder: Path) -> dict[str, Any]:
    """Train, or go on, and judge; what a line of results holds."""
    start, recipe = time.process_time(), run.recipe()
    loader, _ = recipe.loaders()
    seed_all(recipe.seed)
    bare = recipe.build()
    net = OneFrame(bare) if recipe.model.get("ann") else bare
    settings = recipe.trainer(bare)
    # Parameters of what is trained, under whatever name.
    trainer = Trainer(net, run_dir=folder / run.folder, progress=False, tensorboard=False, **settings)
    trainer.fit(loader, None, epochs=recipe.epochs)
    minutes = (time.process_time() - start) / 60
    data, judged = unseen(recipe.steps, run.judged), trainer.averaged or net
    found = judge(judged, data, recipe.grid(bare), recipe.batch)
    x = torch.stack([data[i][0] for i in range(min(64, len(data)))], 1)
    return asdict(run) | {
        "map50": found.map50,
        "map": found.map,
        "classes": found.classes,
        "boxes": found.boxes,
        "parameters": sum(p.numel() for p in net.parameters()),
        # Of this process: less than the whole of a run that was stopped.
        "minutes": minutes,
        **energy(judged, x),
    }


def energy(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """Microjoules a sample: all, by products alone, and were products with zeros free; rate of the spiking layers."""
    sheet = account(net.eval(), x)
    spiking = [row for row in sheet.layers if row.spiking and not row.name.endswith("stem.0")]
    sparse = estimate({"macs": sum(row.effective for row in sheet.layers)}, CMOS_45NM)
    return {
        "microjoules": sheet.energy.joules * 1e6,
        "of_products": sheet.energy.parts["macs"] * 1e6,
        "zeros_free": sparse.joules * 1e6,
        "rate": sum(row.rate * row.dense for row in spiking) / max(sum(row.dense for row in spiking), 1),
        "real": list(sheet.real),
    }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row an arm, and the differences to EMS at T = 4, paired by seed."""
    found = {arm: {line["seed"]: line for line in lines if line["arm"] == arm} for arm in ARMS}
    ann = found["ANN"].values()
    dense = statistics.mean(line["microjoules"] for line in ann) if ann else None
    free = statistics.mean(line["zeros_free"] for line in ann) if ann else None
    rows, differences = [], []
    for arm, by_seed in found.items():
        of = list(by_seed.values())
        if not of:
            continue
        joules = statistics.mean(line["microjoules"] for line in of)
        products = statistics.mean(line["of_products"] for line in of)
        rate = statistics.mean(line["rate"] for line in of)
        rows.append(
            [
                f"{arm} ({len(of)})",
                mean_error([line["map50"] for line in of], 3),
                mean_error([line["map"] for line in of], 3),
                NOTHING if arm == "ANN" else f"{rate:.3f}",
                f"{joules:.1f} ({products:.1f})",
                NOTHING if dense is None else f"{dense / joules:.2f}",
                NOTHING if free is None else f"{free / joules:.2f}",
            ]
        )
        shared = sorted(by_seed.keys() & found[BASE].keys())
        if arm != BASE and shared:
            differences.append(
                [arm]
                + [mean_error([by_seed[s][key] - found[BASE][s][key] for s in shared], 3) for key in ("map50", "map")]
            )
    head = ["arm (seeds)", "mAP@.5", "mAP@.5:.95", "rate", "µJ (of products)", "ANN / it", "ANN, zeros free / it"]
    paired = ["minus " + BASE + ", paired", "mAP@.5", "mAP@.5:.95"]
    return "\n".join([*grid(head, rows), *(grid(paired, differences) if differences else [])])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.ems_compare", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM", help=f"of {list(ARMS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--scenes", type=int, default=1000, help="to train on")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--judged", type=int, default=400, help="test scenes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "ems_compare")
    parser.add_argument("--table", action="store_true", help="train nothing: the table of the lines that are there")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path: Path = given.out / "runs.jsonl"
    for seed, arm in itertools.product(given.seeds, given.arms):
        run = Run(arm, seed, given.epochs, given.scenes, given.width, given.judged)
        if given.table or any(asdict(run).items() <= line.items() for line in read(path)):
            continue
        append(path, train(run, given.out))
    same = {key: getattr(given, key) for key in ("epochs", "scenes", "width", "judged")}
    print(table([line for line in read(path) if same.items() <= line.items()]))


if __name__ == "__main__":
    main()
