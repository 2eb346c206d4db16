"""A residual network with normalised membranes, trained on recordings, folded, in integers, and proven equal in Lava.

    python examples/04_resnet_to_chip.py            # some minutes: the proof runs 2 recordings
    python examples/04_resnet_to_chip.py --help

ResNet-20 of Guo et al. at an eighth of its width, with membrane potential batch normalisation (MPBN) in every neuron,
on real N-MNIST (or on the embedded synthetic set where N-MNIST is not found). Nothing of it is a chain: shortcuts add
spikes and pooled, projected spikes to the drives of the branches.
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.125, help="of all layers (default: %(default)s)")
    parser.add_argument("--reset", choices=("soft", "hard"), default="soft", help="(default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="neurons without MPBN")
    parser.add_argument("--bins", type=int, default=4, help="frames a recording, T (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--lava-samples", type=int, default=2, help="recordings run on Lava (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/resnet"), help="(default: %(default)s)")
    given = parser.parse_args()
    start = time.monotonic()

    neuron = {"kind": "lif", "reset": given.reset, "beta": 0.5, "mpbn": not given.plain}
    arguments = {"in_channels": 2, "width": given.width, "norm": "bn", "neuron": neuron, "readout": 0.95}
    task = Task(bins=given.bins, model="resnet20", arguments=arguments).resolved()
    train, test = task.loaders(batch_size=20, seed=given.seed)
    seed_all(given.seed)
    trainer = sk.Trainer(task.build(), run_dir=given.out, **task.recipe(), seed=given.seed, config=task.config())
    trainer.fit(train, test, epochs=given.epochs, resume=False)
    net = trainer.net.eval()

    frames = task.frames("test")
    x, labels = frames.frames.to(torch.float32).transpose(0, 1), frames.labels
    calibration = task.frames("train").frames[:100].to(torch.float32).transpose(0, 1)

    def right(output: torch.Tensor) -> str:
        return f"{(decode(output) == labels).float().mean().item():.2%}"

    rows = [["float", f"{trainer.evaluate(test).accuracy:.2%}"]]
    chips = {bits: to_loihi(net, calibration, weight_bits=bits, notes=task.config()) for bits in (8, 6, 4)}
    rows.append(["normalisation folded, float64", right(chips[8].trace_float(x)[-1].membranes)])
    rows += [[f"{bits}-bit integers", right(chip.simulate(x))] for bits, chip in chips.items()]
    proofs = [chips[8].verify(x[:, : given.lava_samples], backend) for backend in ("lava-fixed", "lava-float")]
    for proof in proofs:
        compared = sum(layer.spikes for layer in proof.layers)
        wrong = sum(layer.spike_mismatches + layer.membrane_mismatches for layer in proof.layers)
        rows.append([f"{proof.backend}, {proof.samples} recordings", f"{wrong} of {compared:,} spikes differ"])
    print("\n" + layer_table(layer_reports(chips[8], x[:, :20])))
    print("\n" + table(["result", f"{frames.name}, {len(labels)} test recordings"], rows))
    print(f"\nnetwork: {chips[8].save(given.out / 'net.npz')}   {time.monotonic() - start:.0f} s in all")
    return 0 if all(proof.identical for proof in proofs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpikekitError as error:
        sys.exit(f"error: {error}")
