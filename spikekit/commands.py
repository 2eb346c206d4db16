"""What each command of `spikekit` does; arguments come checked from `spikekit.cli`."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from spikekit import doctor as diagnosis
from spikekit.errors import CheckpointError, InputError
from spikekit.export import LoihiNet, layer_reports, quantisation_loss, to_loihi
from spikekit.export.tables import layer_table, loss_table
from spikekit.interop import to_nir
from spikekit.sequential import Sequential
from spikekit.task import IMAGES, Task


def doctor(given: Namespace) -> int:
    """Print every finding; the exit code is 0 whatever is missing, since nothing of it is needed by everyone."""
    for finding in diagnosis.examine(lava=not given.no_lava):
        print(f"{'ok     ' if finding.ok else 'missing'} {finding.topic:<14} {finding.text}")
        if finding.fix:
            print(f"        {'':<14} -> {finding.fix}")
    return 0


def train(given: Namespace) -> int:
    """Train, or go on from the last checkpoint in the run folder."""
    return _train_task(given) if given.recipe is None else _train_recipe(given)


def _train_task(given: Namespace) -> int:
    from spikekit.train import Trainer, seed_all

    def setting(name: str, default: Any) -> Any:
        value = getattr(given, name)
        return default if value is None else value

    task = Task(setting("data", "auto"), setting("bins", 10), setting("model", "event_conv")).resolved()
    seed = setting("seed", 0)
    train_loader, test_loader = task.loaders(setting("batch_size", 20), seed)
    print(_headline(task, len(train_loader.dataset)))  # type: ignore[arg-type]
    seed_all(seed)
    trainer = Trainer(
        task.build(),
        run_dir=given.out,
        **task.recipe(setting("lr", 4e-3)),
        seed=seed,
        devices=given.devices,
        precision=setting("precision", "32-true"),
        config=task.config(),
    )
    history = trainer.fit(train_loader, test_loader, epochs=setting("epochs", 30), resume=not given.fresh)
    last = history[-1].val
    if last is not None:
        print(f"after epoch {history[-1].epoch}: test accuracy {last.accuracy:.2%}; checkpoints in {given.out}")
    return 0


def _train_recipe(given: Namespace) -> int:
    """Train what a recipe says; the test set is looked at once, with the weights of the last epoch."""
    from spikekit.detection_commands import train_detector
    from spikekit.language.commands import train_text
    from spikekit.language.recipe import is_text, make_text_recipe
    from spikekit.recipe import Recipe, read_recipe, read_values
    from spikekit.train import Trainer, seed_all

    for option in ("data", "model", "bins", "batch_size", "lr"):
        if getattr(given, option) is not None:
            raise InputError(f"--{option.replace('_', '-')} is the recipe's to say; change it in {given.recipe}")
    file, values = read_values(given.recipe)
    if is_text(values):
        return train_text(make_text_recipe(values, str(file)), given)
    changes = {key: getattr(given, key) for key in ("epochs", "seed", "precision") if getattr(given, key) is not None}
    recipe = replace(read_recipe(given.recipe), **changes)
    if not isinstance(recipe, Recipe):
        return train_detector(recipe, given)
    task = recipe.task()
    train_loader, held_out = recipe.loaders()
    print(_headline(task, len(train_loader.dataset)), flush=True)  # type: ignore[arg-type]
    seed_all(recipe.seed)
    net = task.build()
    trainer = Trainer(net, run_dir=given.out, devices=given.devices, **recipe.trainer(net))
    history = trainer.fit(train_loader, held_out, epochs=recipe.epochs, resume=not given.fresh)
    test = trainer.evaluate(task.frames("test").loader(100))
    judged = history[-1].val
    held = "" if judged is None else f"held-out accuracy {judged.accuracy:.2%}, "
    print(f"after epoch {history[-1].epoch}: {held}test accuracy {test.accuracy:.2%}; checkpoints in {given.out}")
    return 0


def evaluate(given: Namespace) -> int:
    """Accuracy, loss and firing rates on the test recordings; mean average precision and energy of a detector."""
    from spikekit.detection_commands import evaluate_detector, holds_detector
    from spikekit.train import Trainer

    if holds_detector(given.run):
        return evaluate_detector(given)

    task, net, config = _trained(given.run)
    loss = task.recipe()["loss"]
    if "recipe" in config:
        from spikekit.recipe import Recipe

        loss = Recipe(**config["recipe"]).loss()
    metrics = Trainer(net, loss=loss, progress=False).evaluate(task.frames("test").loader(100))
    print(f"{task.name}: accuracy {metrics.accuracy:.2%}, loss {metrics.loss:.4f}, {metrics.samples} samples")
    for layer in metrics.layers:
        print(f"  layer {layer.name} ({layer.kind}): {layer.rate:.4f} spikes per neuron and step")
    return 0


def generate(given: Namespace) -> int:
    """Write text, token by token."""
    from spikekit.language import commands

    return commands.generate(given)


def detect(given: Namespace) -> int:
    """Find boxes in pictures, event recordings or the data of the run: boxes.json and drawn pictures."""
    from spikekit.detection_commands import detect_boxes

    return detect_boxes(given)


def export(given: Namespace) -> int:
    """Quantise with training recordings as calibration, and write the network."""
    task, net, _ = _trained(given.run)
    calibration = _first(task, "train", given.calibration)[0]
    settings = {"weight_bits": given.bits, "thresholds": given.thresholds, "target": "netx" if given.netx else "lava"}
    chip = to_loihi(net.eval(), calibration, **settings, notes=task.config())
    if given.netx:
        print(f"{chip.to_netx(given.netx)}: for lava.lib.dl.netx.hdf5.Network, reset_interval={calibration.shape[0]}")
    if given.nir:
        to_nir(net, calibration, given.nir)
        print(f"{given.nir}: NIR")
    path = chip.save(given.out or _folder(given.run) / "net.npz")
    print(f"{path}: {len(chip.layers)} layers, calibrated on {calibration.shape[1]} recordings")
    print(layer_table(layer_reports(chip, calibration)))
    return 0


def verify(given: Namespace) -> int:
    """Compare with Lava; exit code 1 when anything differs."""
    path = _network(given.network)
    chip = LoihiNet.load(path)
    task, x, _ = _test_data(chip, path, given)
    print(_headline(task, x.shape[1]), flush=True)
    identical = True
    for backend in ("lava-fixed", "lava-float") if given.backend == "both" else (given.backend,):
        proof = chip.verify(x, backend, timeout=given.timeout)
        print(proof)
        identical &= proof.identical
    return 0 if identical else 1


def report(given: Namespace) -> int:
    """Print the table of layers and accuracies; write the page, its figures as JSON, and activity.png beside it."""
    from spikekit.export.lava import worker_python
    from spikekit.export.page import write_report
    from spikekit.viz import overview

    path = _network(given.network)
    chip = LoihiNet.load(path)
    task, x, labels = _test_data(chip, path, given)
    print(_headline(task, x.shape[1]), flush=True)
    exact, integer = chip.trace_float(x)[-1], chip.trace(x)
    readout = chip.simulate(x)
    accuracies = {
        "float": _accuracy(exact.membranes if not chip.plan[-1].fires else exact.spikes, labels),
        "integer": _accuracy(readout, labels),
    }
    print(f"{layer_table(layer_reports(chip, x))}\n\n{loss_table(quantisation_loss(chip, x))}\n")
    print(
        ", ".join(f"{kind} accuracy {value:.2%}" for kind, value in accuracies.items()),
        f"on {len(labels)} recordings",
    )
    proof = None
    if given.proof and worker_python() is not None:
        proof = chip.verify(x[:, : given.proof], timeout=given.timeout)
        print(proof)
    elif given.proof:
        print("no proof: Lava is not installed. Type: spikekit lava install")
    page = given.out or path.parent / "report.html"
    figures = given.json or page.with_suffix(".json")
    title = f"{path.parent.resolve().name}/{path.name}"
    write_report(chip, x, page, proof=proof, accuracies=accuracies, title=title, data=task.name, json_path=figures)
    spikes = {
        f"layer {layer.name}": trace.spikes[:, 0]
        for layer, trace in zip(chip.layers, integer, strict=True)
        if layer.fires
    }
    picture = page.parent / "activity.png"
    overview(x[:, 0], spikes, readout[:, 0].flatten(1), "the integer network on one recording").savefig(
        picture, dpi=110
    )
    print(f"written: {page}, {figures}, {picture}")
    return 0 if proof is None or proof.identical else 1


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


def _network(path: Path) -> Path:
    return path / "net.npz" if path.is_dir() else path


def _headline(task: Task, samples: int) -> str:
    what = "images, {} steps each" if task.data in IMAGES else "recordings, {} frames each"
    return f"{task.name}: {samples} {what.format(task.bins)}"


def _trained(run: Path) -> tuple[Task, Sequential, dict[str, Any]]:
    """The task, the network and the configuration of a run folder's last checkpoint, or of one file."""
    from spikekit.train import load_weights, read_config

    path = run / "last.safetensors" if run.is_dir() else run
    if not path.exists():
        folder = run.parent if run.suffix == ".safetensors" else run
        raise CheckpointError(f"{path}: no such checkpoint; train one with: spikekit train --out {folder}")
    config = read_config(path)
    if "language" in config:
        raise CheckpointError(
            f"{path}: this is a language model, not a network that classifies; type: spikekit generate {run}"
        )
    task = Task.from_config(config, path)
    net = task.build()
    load_weights(net, path)
    return task, net, config


def _first(task: Task, split: str, samples: int) -> tuple[Tensor, Tensor]:
    """The first samples of a split as x [T, B, C, H, W] and labels [B]."""
    batch: tuple[Tensor, Tensor] = next(iter(task.frames(split).loader(samples)))
    return batch


def _test_data(chip: LoihiNet, path: Path, given: Namespace) -> tuple[Task, Tensor, Tensor]:
    """Test recordings framed as `chip` was trained: the task, x [T, B, C, H, W] and labels [B].

    Only the kind of data can be chosen by --data: another number of frames would be another problem.
    """
    task = Task.from_config(chip.notes, path) if "task" in chip.notes else Task()
    if given.data is not None:
        task = replace(task, data=given.data)
    task = task.resolved()
    x, labels = _first(task, "test", given.samples)
    if tuple(x.shape[2:]) != chip.in_shape:
        raise InputError(
            f"{path} takes frames {chip.in_shape}, {task.name} gives {tuple(x.shape[2:])}; "
            "run it on data of its own in Python: LoihiNet.load, then verify or simulate"
        )
    return task, x, labels


def _accuracy(output: Tensor, labels: Tensor) -> float:
    from spikekit.train import decode

    return float((decode(output.float()) == labels).float().mean())
