"""Three tasks one after the other: plain training forgets the first, HLOP does not, and its network goes to a chip.

    python examples/06_learn_without_forgetting.py          # about a minute
    python examples/06_learn_without_forgetting.py --help

Each task has the same digits with their pixels in another order: MNIST in black and white where SPIKEKIT_DATA holds it,
else scikit-learn's 1,797 digits of 8 x 8 pixels. A pixel that is on is a spike at every step. Both methods start from
the same network; HLOP's lateral units learn beside it what each layer is given. Then the network that HLOP trained is
exported to 8-bit integers, judged on every task, and run on Intel Lava, every spike and every membrane compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

import spikekit as sk
from spikekit import continual as cl
from spikekit.datasets import MNIST, ImageSet
from spikekit.errors import SpikekitError, require
from spikekit.export import to_loihi
from spikekit.export.tables import table


def digits() -> tuple[ImageSet, ImageSet]:
    """Training and test images whose pixels are 0 or 1."""
    if MNIST.available():
        found = [(each.images > 127, each.labels) for each in (MNIST("train"), MNIST("test"))]
        name = "MNIST in black and white"
    else:
        source = require("sklearn.datasets", "events").load_digits()
        images = torch.from_numpy(source.images).unsqueeze(1) > 7
        labels = torch.from_numpy(source.target.astype(np.int64))
        found = [(images[:1437], labels[:1437]), (images[1437:], labels[1437:])]
        name = "scikit-learn's digits in black and white"
    # Mean and deviation for which a byte of 1 is an input of 1.
    train, test = (ImageSet(name, pixels.to(torch.uint8), classes, (0.0,), (1 / 255,)) for pixels, classes in found)
    return train, test


def network(pixels: int) -> sk.Sequential:
    torch.manual_seed(0)
    lif = partial(sk.LIF, 0.5, 0.3, detach_reset=True, surrogate=sk.surrogate.Sigmoid(4.0))
    return sk.Sequential(
        *(nn.Linear(pixels, 400, bias=False), lif(), nn.Linear(400, 400, bias=False), lif()),
        *(nn.Linear(400, 10, bias=False), sk.LI(0.5)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--images", type=int, default=6000, help="of a task (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="a task (default: %(default)s)")
    parser.add_argument("--lava-samples", type=int, default=2, help="of each task, run on Lava (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/continual"), help="(default: %(default)s)")
    given = parser.parse_args()
    start = time.monotonic()

    train, test = digits()
    protocol = cl.permuted(train, test, tasks=given.tasks, steps=6, limit=given.images)
    pixels = protocol.shape[0]
    # Units for a part of a layer's inputs: less where there are few to learn in.
    first, later = ([round(share * n) for n in (pixels, 400, 400)] for share in (0.15, 0.1))
    methods = {
        "plain": cl.Plain(network(pixels)),
        "HLOP": cl.HLOP(network(pixels), cl.Schedule(first, (later,))),
    }
    matrices = {}
    for name, method in methods.items():
        sgd = partial(torch.optim.SGD, lr=0.3)
        print(f"{name}: {given.tasks} tasks of {len(protocol.tasks[0].train):,} images of {train.name}", flush=True)
        matrices[name] = cl.Course(method, protocol, sgd, epochs=given.epochs).run()
    given.out.mkdir(parents=True, exist_ok=True)
    sk.viz.forgetting(matrices, f"Permuted {train.name}").savefig(given.out / "forgetting.png", dpi=120)

    net = methods["HLOP"].net.eval()
    calibration = torch.cat([next(task.train.batches(50)).x for task in protocol.tasks], 1)
    chip = to_loihi(net, calibration, notes={"data": protocol.name})
    rows, samples = [], []
    for number, task in enumerate(protocol.tasks):
        batches = list(task.test.batches(500))
        right = sum(batch.correct(chip.simulate(batch.x)) for batch in batches) / len(task.test)
        samples.append(batches[0].x[:, : given.lava_samples])
        rows.append([str(number + 1), *(f"{matrix[-1, number]:.2%}" for matrix in matrices.values()), f"{right:.2%}"])
    print("\n" + table(["task", *matrices, "HLOP, 8-bit integers"], rows))
    for name, matrix in matrices.items():
        acc, bwt = cl.average_accuracy(matrix), cl.backward_transfer(matrix)
        print(f"{name}: ACC {100 * acc:.2f} %, BWT {100 * bwt:+.2f} points")
    proof = chip.verify(torch.cat(samples, 1), "lava-fixed")
    print(f"\n{proof}")
    print(f"picture: {given.out / 'forgetting.png'}   {time.monotonic() - start:.0f} s in all")
    return 0 if proof.identical else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpikekitError as error:
        sys.exit(f"error: {error}")
