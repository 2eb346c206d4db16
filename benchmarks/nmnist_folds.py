"""Five-fold cross-validation of the demo's network over all recordings of N-MNIST at hand.

    python -m benchmarks.nmnist_folds

Each recording is tested once, by a network that never saw it. Stratified folds and all seeds are fixed. Training
recordings are bent and lose spikes beside what the demo does to them: with 40 epochs it pays, with the demo's 30 not.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Subset

import spikekit as sk
from spikekit.datasets import kfold
from spikekit.events import Compose, RandomAffine, RandomDrop, RandomElastic, collate_time_first
from spikekit.task import Task
from spikekit.train import seed_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=40, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()

    task = Task().resolved()
    frames = task.frames("all")
    print(f"{frames.name}: {len(frames)} recordings, {given.folds} folds, {given.epochs} epochs each", flush=True)
    augment = Compose(RandomAffine(), RandomElastic(), RandomDrop())
    scores, right = [], 0.0
    for fold, (train, test) in enumerate(kfold(frames.labels.numpy(), given.folds)):
        start = time.monotonic()
        seed_all(fold)
        trainer = sk.Trainer(task.build(), **task.recipe(), seed=fold, progress=False)

        def augmented(samples: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
            return collate_time_first([(augment(x), y) for x, y in samples])

        trainer.fit(
            DataLoader(Subset(frames, train.tolist()), 20, shuffle=True, collate_fn=augmented),
            epochs=given.epochs,
        )
        held_out = DataLoader(Subset(frames, test.tolist()), 100, collate_fn=collate_time_first)
        accuracy = trainer.evaluate(held_out).accuracy
        scores.append(accuracy)
        right += accuracy * len(test)
        print(f"fold {fold}: {accuracy:.2%} of {len(test)} in {time.monotonic() - start:.0f} s", flush=True)
    pooled = right / len(frames)
    error = (pooled * (1 - pooled) / len(frames)) ** 0.5
    print(f"all folds: {pooled:.2%} ± {error:.2%} (binomial standard error) of {len(frames)} recordings")
    if given.json:
        given.json.write_text(json.dumps({"data": frames.name, "folds": scores, "accuracy": pooled}) + "\n")


if __name__ == "__main__":
    main()
