"""A small task with every kind of randomness, and a script that trains on it and may be killed.

`python toy.py RUN_DIR '{"epochs": 3, "kill": [2, 3]}'`; the tests load this file as a module too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import spikekit as sk
from spikekit.train import Trainer, seed_all

STEPS, FEATURES, CLASSES, SAMPLES = 6, 12, 3, 72


class Toy(Dataset):
    """Spike trains around one prototype a class; each look at a sample drops random spikes."""

    def __init__(self, samples: int = SAMPLES, augment: bool = True) -> None:
        generator = torch.Generator().manual_seed(7)
        prototypes = torch.rand(CLASSES, FEATURES, generator=generator)
        self.y = torch.randint(CLASSES, (samples,), generator=generator)
        chance = prototypes[self.y][:, None].expand(-1, STEPS, -1)
        self.x = torch.bernoulli(chance, generator=generator)
        self.augment = augment
        self.seen: list[int] = []

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.seen.append(index)
        x = self.x[index]
        if self.augment:
            x = x * (torch.rand(x.shape) > 0.1)
        return x, self.y[index]


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = zip(*samples, strict=True)
    return torch.stack(x, 1), torch.stack(y)


def loader(batch_size: int = 8, shuffle: bool = True, workers: int = 0, **options: object) -> DataLoader:
    dataset = Toy(**options)
    return DataLoader(dataset, batch_size, shuffle=shuffle, collate_fn=collate, num_workers=workers)


def network(hidden: int = 16, seed: int = 0, **lif: object) -> nn.Module:
    seed_all(seed)
    return sk.Sequential(
        nn.Linear(FEATURES, hidden),
        nn.BatchNorm1d(hidden),
        sk.LIF(learn=("beta",), **lif),
        nn.Dropout(0.2),
        nn.Linear(hidden, CLASSES),
        sk.LI(),
    )


class At:
    """A progress view that does `action` after batch `batch` of epoch `epoch`, and keeps all notes."""

    def __init__(self, epoch: int = 0, batch: int = 0, action: object = None) -> None:
        self.where, self.action = (epoch, batch), action
        self.notes: list[str] = []
        self.records: list[object] = []
        self.batches: list[tuple[int, int]] = []
        self.stopped = False

    def start(self, epochs: int, batches: int | None, epoch: int, batch: int) -> None:
        self.started = (epochs, batches, epoch, batch)

    def batch(self, epoch: int, batch: int, measure: object) -> None:
        self.batches.append((epoch, batch))
        if (epoch, batch) == self.where and callable(self.action):
            self.action()

    def epoch(self, record: object) -> None:
        self.records.append(record)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stop(self) -> None:
        self.stopped = True


def trainer(net: nn.Module, run_dir: Path | None = None, **options: object) -> Trainer:
    options = {"accelerator": "cpu", "progress": False, "tensorboard": False, "lr": 0.01, **options}
    return Trainer(net, run_dir=run_dir, **options)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_while_writing() -> None:
    """Let the next checkpoint be cut short in the middle of its bytes."""
    from spikekit.train import archive

    whole = archive.save_file

    def half(tensors: dict[str, Tensor], path: str, metadata: dict[str, str]) -> None:
        whole(tensors, path, metadata=metadata)
        os.truncate(path, os.path.getsize(path) // 2)
        kill()

    archive.save_file = half


def main(run_dir: str, options: dict) -> None:
    actions = {"kill": kill, "kill_while_writing": kill_while_writing, "interrupt": interrupt}
    view = At(*options["at"], actions[options["action"]]) if "at" in options else At()
    train_loader = loader(workers=options.get("workers", 0))
    net = network(norm=sk.MPBN(16, sync=True)) if options.get("sync") else network()
    run = trainer(net, Path(run_dir), progress=view, checkpoint_every=options.get("every"))
    run.fit(train_loader, loader(shuffle=False, augment=False), epochs=options["epochs"])
    test = loader(shuffle=False, augment=False, samples=options.get("test_samples", SAMPLES))
    metrics = run.evaluate(test)
    report = {
        "weights": {name: value.tolist() for name, value in net.state_dict().items()},
        "seen": train_loader.dataset.seen,
        "loss": metrics.loss,
        "accuracy": metrics.accuracy,
        "samples": metrics.samples,
        "rates": metrics.rates,
        "random": torch.rand(2).tolist(),
        "world": run.engine.world,
    }
    Path(run_dir, f"report-{run.engine.rank}.json").write_text(json.dumps(report))


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("error")
    main(sys.argv[1], json.loads(sys.argv[2]))
