"""What each command of `spikekit` does; arguments come checked from `spikekit.cli`."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from spikekit import doctor as diagnosis
from spikekit.errors import CheckpointError, InputError
from spikekit.export import LoihiNet, layer_reports, to_loihi
from spikekit.export.tables import layer_table
from spikekit.sequential import Sequential
from spikekit.task import Task


def doctor(given: Namespace) -> int:
    """Print every finding; the exit code is 0 whatever is missing, since nothing of it is needed by everyone."""
    for finding in diagnosis.examine(lava=not given.no_lava):
        print(f"{'ok     ' if finding.ok else 'missing'} {finding.topic:<14} {finding.text}")
        if finding.fix:
            print(f"        {'':<14} -> {finding.fix}")
    return 0


def train(given: Namespace) -> int:
    """Train, or go on from the last checkpoint in the run folder."""
    from spikekit.train import Trainer, seed_all

    task = Task(given.data, given.bins, given.model).resolved()
    train_loader, test_loader = task.loaders(given.batch_size, given.seed)
    print(f"{task.source('train').name}: {len(train_loader.dataset)} recordings, {task.bins} frames each")  # type: ignore[arg-type]
    seed_all(given.seed)
    trainer = Trainer(
        task.build(),
        run_dir=given.out,
        **task.recipe(given.lr),
        seed=given.seed,
        devices=int(given.devices) if given.devices.isdigit() else given.devices,
        precision=given.precision,
        config=task.config(),
    )
    history = trainer.fit(train_loader, test_loader, epochs=given.epochs, resume=not given.fresh)
    last = history[-1].val
    if last is not None:
        print(f"after epoch {history[-1].epoch}: test accuracy {last.accuracy:.2%}; checkpoints in {given.out}")
    return 0


def evaluate(given: Namespace) -> int:
    """Accuracy, loss and firing rates on the test recordings."""
    from spikekit.train import CrossEntropy, Trainer

    task, net = _trained(given.run)
    metrics = Trainer(net, loss=CrossEntropy(), progress=False).evaluate(task.frames("test").loader(100))
    print(
        f"{task.source('test').name}: accuracy {metrics.accuracy:.2%}, loss {metrics.loss:.4f}, "
        f"{metrics.samples} samples"
    )
    for layer in metrics.layers:
        print(f"  layer {layer.name} ({layer.kind}): {layer.rate:.4f} spikes per neuron and step")
    return 0


def export(given: Namespace) -> int:
    """Quantise with training recordings as calibration, and write the network."""
    task, net = _trained(given.run)
    calibration = _first(task, "train", given.calibration)[0]
    chip = to_loihi(net.eval(), calibration)
    path = chip.save(given.out or _folder(given.run) / "net.npz")
    print(f"{path}: {len(chip.layers)} layers, calibrated on {calibration.shape[1]} recordings")
    print(layer_table(layer_reports(chip, calibration)))
    return 0


def verify(given: Namespace) -> int:
    """Compare with Lava; exit code 1 when anything differs."""
    chip = LoihiNet.load(given.network)
    x, _ = _data_for(chip, given)
    identical = True
    for backend in ("lava-fixed", "lava-float") if given.backend == "both" else (given.backend,):
        proof = chip.verify(x, backend, timeout=given.timeout)
        print(proof)
        identical &= proof.identical
    return 0 if identical else 1


def report(given: Namespace) -> int:
    """Print the table of layers and accuracies; write report.json and activity.png beside the network."""
    from spikekit.viz import overview

    chip = LoihiNet.load(given.network)
    x, labels = _data_for(chip, given)
    rows = layer_reports(chip, x)
    exact, integer = chip.trace_float(x)[-1], chip.trace(x)
    readout = chip.simulate(x)
    accuracies = {
        "float": _accuracy(exact.membranes if not chip.plan[-1].fires else exact.spikes, labels),
        "integer": _accuracy(readout, labels),
    }
    print(layer_table(rows))
    print(
        ", ".join(f"{name} accuracy {value:.2%}" for name, value in accuracies.items()),
        f"on {len(labels)} recordings",
    )
    folder = given.network.parent
    data = {"samples": len(labels), "accuracy": accuracies, "layers": [asdict(row) for row in rows]}
    (folder / "report.json").write_text(json.dumps(data, indent=2) + "\n")
    spikes = {
        f"layer {row.name}": trace.spikes[:, 0]
        for row, trace, layer in zip(rows, integer, chip.layers, strict=True)
        if layer.fires
    }
    overview(x[:, 0], spikes, readout[:, 0].flatten(1), "the integer network on one recording").savefig(
        folder / "activity.png", dpi=110
    )
    print(f"written: {folder / 'report.json'}, {folder / 'activity.png'}")
    return 0


def lava(given: Namespace) -> int:
    """Install or check the worker."""
    from spikekit.export.lava import worker_python
    from spikekit.export.lava.check import check
    from spikekit.export.lava.install import install

    python = install(given.python, given.force) if given.action == "install" else worker_python()
    if python is None:
        print("Lava worker: not installed. Type: spikekit lava install")
        return 1
    found = check(python)
    print(found)
    return 0 if found.ok else 1


def _folder(run: Path) -> Path:
    return run if run.is_dir() else run.parent


def _trained(run: Path) -> tuple[Task, Sequential]:
    """The task and the network of a run folder's last checkpoint, or of one file."""
    from spikekit.train import load_weights, read_config

    path = run / "last.safetensors" if run.is_dir() else run
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint; train one with: spikekit train --out {_folder(run)}")
    task = Task.from_config(read_config(path), path)
    net = task.build()
    load_weights(net, path)
    return task, net


def _first(task: Task, split: str, samples: int) -> tuple[Tensor, Tensor]:
    """The first recordings of a split as x [T, B, 2, H, W] and labels [B]."""
    frames = task.frames(split)
    return frames.frames[:samples].to(torch.float32).transpose(0, 1), frames.labels[:samples]


def _data_for(chip: LoihiNet, given: Namespace) -> tuple[Tensor, Tensor]:
    x, labels = _first(Task(given.data), "test", given.samples)
    if tuple(x.shape[2:]) != chip.in_shape:
        raise InputError(f"{given.network} takes frames {chip.in_shape}, {given.data} gives {tuple(x.shape[2:])}")
    return x, labels


def _accuracy(output: Tensor, labels: Tensor) -> float:
    from spikekit.train import decode

    return float((decode(output.float()) == labels).float().mean())
