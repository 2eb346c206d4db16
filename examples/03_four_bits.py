"""How few bits does a spiking network need? Quantisation-aware training on real event recordings, in one go.

    python examples/03_four_bits.py                 # five folds; finished trainings are only loaded the next time
    python examples/03_four_bits.py --net resnet20 --bits 8 4 --out runs/resnet_bits
    python examples/03_four_bits.py --help

For each fold the demo's network, or a ResNet-20 at an eighth of its width with normalised membranes, is trained in
float, rounded to 8 and to 4 bits, and trained on for a few epochs in the integers of its 4-bit export. Every recording
is judged once, by networks that never saw it, so differences are paired: their standard error counts the recordings
that one network has right and the other wrong. The last network runs on Intel Lava, every spike compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

import spikekit as sk
from spikekit.datasets import kfold
from spikekit.errors import SpikekitError
from spikekit.events import RandomAffine, collate_time_first
from spikekit.export import LoihiNet, quantisation_loss, to_loihi
from spikekit.export.tables import loss_table, table
from spikekit.task import Task
from spikekit.train import decode, seed_all

_RESNET = {"in_channels": 2, "width": 0.125, "norm": "bn", "readout": 0.95}
_MPBN = {"kind": "lif", "reset": "soft", "beta": 0.5, "mpbn": True}
NETS = {
    "event_conv": Task(),
    "resnet20": Task(bins=4, model="resnet20", arguments=_RESNET | {"neuron": _MPBN}),
}


def loader(frames: object, indices: list[int]) -> DataLoader[tuple[Tensor, Tensor]]:
    """Shuffled batches of these recordings, bent a little, as the demo trains."""
    augment = RandomAffine()

    def augmented(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return collate_time_first([(augment(x), y) for x, y in samples])

    return DataLoader(Subset(frames, indices), 20, shuffle=True, collate_fn=augmented)  # type: ignore[arg-type]


def train(net: nn.Module, task: Task, batches: DataLoader, folder: Path, fold: int, lr: float, epochs: int) -> None:  # type: ignore[type-arg]
    """Train `net` in place, or load what an earlier run left in `folder`."""
    seed_all(fold)
    trainer = sk.Trainer(net, run_dir=folder, **task.recipe(lr), seed=fold, config=task.config(), progress=False)
    trainer.fit(batches, epochs=epochs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="in float (default: %(default)s)")
    parser.add_argument("--net", choices=NETS, default="event_conv", help="(default: %(default)s)")
    parser.add_argument("--bits", type=int, nargs="+", default=[4], help="4 to 8 (default: 4)")
    parser.add_argument("--thresholds", choices=("neuron", "group", "layer"), default="neuron", help="with few bits")
    parser.add_argument("--bit-epochs", type=int, default=5, help="in integers (default: %(default)s)")
    parser.add_argument("--bit-lr", type=float, default=1e-3, help="(default: %(default)s)")
    parser.add_argument("--lava-samples", type=int, default=2, help="0 does without Lava (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/four_bits"), help="(default: %(default)s)")
    given = parser.parse_args()
    start = time.monotonic()

    task = NETS[given.net].resolved()
    frames = task.frames("all")
    print(f"data: {frames.name}, {len(frames)} recordings, {given.folds} folds", flush=True)
    every, labels = frames.frames.to(torch.float32).transpose(0, 1), frames.labels
    by = "" if given.thresholds == "neuron" else f", thresholds by {given.thresholds}"
    names = {bits: f"{bits} bits{by}" for bits in given.bits}
    kinds = ["float", "8 bits", *(kind for name in names.values() for kind in (name, f"{name}, trained"))]
    right = {kind: torch.zeros(len(frames), dtype=torch.bool) for kind in kinds}
    equal, chip, x = True, None, every[:, :1]
    for fold, (train_part, test_part) in enumerate(kfold(labels.numpy(), given.folds)):
        batches = loader(frames, train_part.tolist())
        calibration, x, y = every[:, train_part[:200]], every[:, test_part], labels[test_part]
        seed_all(fold)
        net = task.build()
        train(net, task, batches, given.out / f"fold{fold}-float-{given.epochs}", fold, 4e-3, given.epochs)
        with torch.no_grad():
            outputs = {"float": net.eval()(x), "8 bits": to_loihi(net, calibration).simulate(x)}
        for bits, name in names.items():
            settings = {"weight_bits": bits, "thresholds": given.thresholds}
            learner = sk.export.qat(net, calibration, **settings)
            folder = given.out / f"fold{fold}-{given.epochs}-{bits}bits-{given.thresholds}-{given.bit_epochs}"
            train(learner, task, batches, folder, fold, given.bit_lr, given.bit_epochs)
            chip = to_loihi(learner, calibration, notes=task.config())
            outputs[name] = to_loihi(net, calibration, **settings).simulate(x)
            outputs[f"{name}, trained"] = chip.simulate(x)
            with torch.no_grad():
                equal &= torch.equal(outputs[f"{name}, trained"], learner.eval()(x))
        for kind, output in outputs.items():
            right[kind][test_part] = decode(output) == y
        scores = ", ".join(f"{kind} {right[kind][test_part].float().mean():.2%}" for kind in right)
        print(f"fold {fold}: {scores}   ({time.monotonic() - start:.0f} s)", flush=True)

    print("\n" + table(["held-out accuracy", frames.name, "minus float, paired"], rows(right)))
    print(f"\ntraining's own output equals that of the exported network, bit for bit: {equal}")
    if not isinstance(chip, LoihiNet):
        return 1
    print(f"\n{kinds[-1]}: what the last fold loses against its own float weights\n")
    print(loss_table(quantisation_loss(chip, x)))
    if given.lava_samples:
        proof = chip.verify(x[:, : given.lava_samples])
        print(f"\n{proof}")
        equal &= proof.identical
    return 0 if equal else 1


def rows(right: dict[str, Tensor]) -> list[list[str]]:
    """Accuracies, and differences to the first with the standard error of paired decisions."""
    first = next(iter(right.values()))
    made = []
    for kind, hits in right.items():
        gained, lost = int((hits & ~first).sum()), int((first & ~hits).sum())
        n = len(hits)
        mean = (gained - lost) / n
        error = ((gained + lost) / n - mean**2) ** 0.5 / n**0.5
        difference = "" if hits is first else f"{100 * mean:+.2f} ± {100 * error:.2f} points ({gained} up, {lost} down)"
        made.append([kind, f"{hits.float().mean():.2%}", difference])
    return made


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpikekitError as error:
        sys.exit(f"error: {error}")
