"""One training of `benchmarks.ablation_reset`: on what data, which network and neuron, and how."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

import spikekit as sk
from spikekit import datasets
from spikekit.recipe import Recipe, parameter_groups
from spikekit.task import Task
from spikekit.train import CrossEntropy, WarmCosine, seed_all

NEURON = {"kind": "lif", "beta": 0.5, "threshold": 0.5}
QUANTUM = 1.0


@dataclass(frozen=True)
class Setup:
    """How a kind of data is trained on. train: samples of the training set, the first of them; held: of those, for
    choosing the learning rate.
    """

    data: str
    model: str
    arguments: Mapping[str, Any]
    train: int
    held: int
    epochs: int
    batch: int
    augment: Mapping[str, Any]
    rates: tuple[float, ...] = (1e-3, 4e-3, 1.6e-2)
    weight_decay: float = 1e-2


SETUPS = {
    "nmnist": Setup(
        "nmnist",
        "convnet",
        {"in_shape": [2, 34, 34], "channels": [16, 32], "strides": [2, 2], "hidden": 64},
        *(1000, 200, 20, 20),
        {"affine": True},
    ),
    "fashion": Setup(
        "fashion-mnist",
        "convnet",
        {"in_shape": [1, 28, 28], "channels": [16, 32], "strides": [2, 2], "hidden": 64},
        *(10_000, 2000, 6, 50),
        {},
    ),
    "cifar10": Setup(
        "cifar10-jpeg", "resnet20", {"width": 0.25, "norm": "bn"}, *(20_000, 4000, 15, 128), {"crop": 4, "flip": True}
    ),
}


@dataclass(frozen=True)
class Run:
    """One training. phase: "tune" is judged on the part held out, "test" on the test set."""

    phase: str
    data: str
    steps: int
    reset: str
    mpr: bool
    mpbn: bool
    seed: int
    lr: float

    @property
    def arm(self) -> tuple[str, bool, bool]:
        return self.reset, self.mpr, self.mpbn

    def neuron(self) -> dict[str, Any]:
        quantum = {"quantum": QUANTUM} if self.reset == "soft" else {}
        return NEURON | {"reset": self.reset, "mpr": self.mpr, "mpbn": self.mpbn} | quantum


def settings(setup: Setup) -> dict[str, Any]:
    """What a result depends on besides its run: lines with other settings are left alone."""
    return json.loads(json.dumps(asdict(setup) | {"neuron": NEURON, "quantum": QUANTUM}))


@functools.lru_cache(maxsize=4)
def frames(data: str, steps: int, split: str) -> Any:
    return Task(SETUPS[data].data, steps).frames(split)


def parts(run: Run) -> tuple[Any, Any]:
    """Indices of the training samples that a run is trained on, and the batches that it is judged on."""
    setup = SETUPS[run.data]
    whole = frames(run.data, run.steps, "train")
    labels = whole.labels.numpy()
    # The seed of the two parts is fixed: every run of a kind of data sees the same samples.
    chosen = datasets.holdout(labels, setup.train)[1] if setup.train < len(labels) else np.arange(len(labels))
    if run.phase == "tune":
        stay, out = (chosen[part] for part in datasets.holdout(labels[chosen], setup.held))
        return stay, whole.loader(500, indices=out)
    return chosen, frames(run.data, run.steps, "test").loader(500)


def train(run: Run, indices: Any, device: str = "cpu") -> tuple[sk.Sequential, sk.Trainer, float]:
    """The network of a run, trained on those samples, its trainer, and its accuracy in the last epoch of training."""
    setup = SETUPS[run.data]
    seed_all(run.seed)
    net = sk.models.build(setup.model, {**setup.arguments, "neuron": run.neuron()})
    trainer = sk.Trainer(
        net,
        loss=CrossEntropy(),
        optimizer=lambda _: torch.optim.AdamW(
            parameter_groups(net, decay_all=False), lr=run.lr, weight_decay=setup.weight_decay
        ),
        schedule=WarmCosine(0.1),
        seed=run.seed,
        accelerator=device,
        progress=False,
    )
    transform = Recipe(setup.data, {"name": setup.model}, augment=setup.augment).transform()
    samples = frames(run.data, run.steps, "train")
    loader = samples.loader(setup.batch, shuffle=True, seed=run.seed, transform=transform, indices=indices)
    return net, trainer, trainer.fit(loader, epochs=setup.epochs)[-1].train.accuracy
