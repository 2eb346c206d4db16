"""From event-camera recordings to a chip network that is proven equal, in one go: the main job of spikekit.

    python examples/01_events_to_chip.py            # what `make demo` runs
    python examples/01_events_to_chip.py --help

Trains a small convolutional spiking network with soft reset on real N-MNIST (or on the embedded synthetic set where
N-MNIST is not found), quantises it to 8-bit integers, runs it on Intel Lava, and compares every spike.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

import spikekit as sk
from spikekit.errors import SpikekitError
from spikekit.export import layer_reports, to_loihi
from spikekit.export.tables import layer_table, table
from spikekit.task import Task
from spikekit.train import decode, seed_all
from spikekit.viz import overview


def train(task: Task, seed: int, epochs: int, folder: Path) -> tuple[sk.Sequential, float]:
    """One trained network in eval mode, and its test accuracy after the last epoch."""
    train_loader, test_loader = task.loaders(batch_size=20, seed=seed)
    seed_all(seed)
    trainer = sk.Trainer(
        task.build(),
        run_dir=folder / f"seed{seed}",
        **task.recipe(),
        seed=seed,
        config=task.config(),
    )
    trainer.fit(train_loader, test_loader, epochs=epochs, resume=False)
    return trainer.net.eval(), trainer.evaluate(test_loader).accuracy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="networks to train (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--lava-samples", type=int, default=10, help="recordings run on Lava (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="(default: %(default)s)")
    given = parser.parse_args()
    start = time.monotonic()

    task = Task().resolved()
    test = task.frames("test")
    print(f"data: {test.name}, {len(task.frames('train'))} training and {len(test)} test recordings", flush=True)
    networks = []
    for seed in range(given.seeds):
        print(f"\ntraining, seed {seed}", flush=True)
        networks.append(train(task, seed, given.epochs, given.out))
    scores = torch.tensor([accuracy for _, accuracy in networks])
    error = scores.std().item() / len(scores) ** 0.5 if len(scores) > 1 else float("nan")

    # The first network goes to the chip: folded, quantised, simulated in integers, and run on Lava.
    net, accuracy = networks[0]
    x, labels = test.frames.to(torch.float32).transpose(0, 1), test.labels
    calibration = task.frames("train").frames[:200].to(torch.float32).transpose(0, 1)
    chip = to_loihi(net, calibration, notes=task.config())
    chip.save(given.out / "net.npz")
    folded = chip.trace_float(x)[-1].membranes
    integer = chip.simulate(x)
    proofs = []
    for backend in ("lava-fixed", "lava-float"):
        print(f"\nrunning {given.lava_samples} recordings on Lava, {backend}", flush=True)
        proofs.append(chip.verify(x[:, : given.lava_samples], backend))
        print(proofs[-1])

    def right(output: torch.Tensor) -> str:
        return f"{(decode(output) == labels).float().mean().item():.2%}"

    rows = [
        [f"test accuracy, float, mean of {len(scores)} seeds", f"{scores.mean():.2%} ± {error:.2%} s.e."],
        ["seed 0: float", f"{accuracy:.2%}"],
        ["seed 0: batch norm folded, float64", right(folded)],
        [f"seed 0: 8-bit integers, {len(labels)} recordings", right(integer)],
    ]
    for proof in proofs:
        counts = ", ".join(f"{name}: {count}" for name, count in proof.mismatches.items())
        rows.append([f"{proof.backend}, {proof.samples} recordings: mismatches per layer", counts])
    print("\n" + table(["result", task.data], rows))
    report = layer_reports(chip, x)
    print("\n" + layer_table(report))

    trace = chip.trace(x[:, :1])
    spikes = {f"layer {layer.name}": t.spikes[:, 0] for layer, t in zip(chip.layers, trace, strict=True) if layer.fires}
    picture = given.out / "demo.png"
    title = f"{test.name}: a {int(labels[0])}, in the 8-bit integer network"
    overview(x[:, 0], spikes, chip.simulate(x[:, :1])[:, 0], title).savefig(picture, dpi=110)
    print(f"\npicture: {picture}   network: {given.out / 'net.npz'}   {time.monotonic() - start:.0f} s in all")
    return 0 if all(proof.identical for proof in proofs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpikekitError as error:
        sys.exit(f"error: {error}")
