"""A sigma-delta network, which hears and sends changes alone: trained on MNIST seen by a moving camera, run on Lava.

    python examples/05_changes_to_chip.py           # about a minute
    python examples/05_changes_to_chip.py --help

Each sequence is a digit in 16 grey levels that stands still, and moves by a pixel every few frames. The network is fed
with what changed between two frames, its neurons send what changed in their activity once it is large enough, and the
readout sums that up. So where the picture stands still nothing is computed, and the higher the threshold, the less is
sent. The integers of the export send the messages that Lava's do, every one compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikekit as sk
from spikekit.datasets import MNIST
from spikekit.datasets.images import ImageSet
from spikekit.errors import SpikekitError
from spikekit.export import layer_reports, quantisation_loss, to_loihi
from spikekit.export.tables import layer_table, loss_table, table
from spikekit.train import seed_all

LEVELS, STILL = 16, 3


class Fraction(nn.Module):
    """Grey levels, whole numbers as a chip takes them, as parts of the brightest."""

    def forward(self, x: Tensor) -> Tensor:
        """X / 16."""
        return x / LEVELS


def changes(images: ImageSet, count: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Changes of the first `count` images from frame to frame, whole numbers [T, N, 1, 28, 28], and labels [N]."""
    draw = torch.Generator().manual_seed(seed)
    grey = (images.images[:count].float() * LEVELS / 256).floor()
    towards = torch.randint(0, 4, (count,), generator=draw)
    frames = []
    for step in range(steps):
        moved = torch.empty_like(grey)
        for number, (axis, sign) in enumerate(((2, 1), (2, -1), (3, 1), (3, -1))):
            chosen = towards == number
            moved[chosen] = grey[chosen].roll(sign * (step // STILL), axis)
        frames.append(moved)
    seen = torch.stack(frames)
    return torch.diff(seen, dim=0, prepend=torch.zeros_like(seen[:1])), images.labels[:count]


def network(threshold: float) -> sk.Sequential:
    """Two convolutions and a readout that sums up. No layer in front of a SigmaDelta has a bias of its own."""

    def neurons(channels: int) -> sk.SigmaDelta:
        return sk.SigmaDelta(threshold, bias=torch.zeros(channels), learn="bias")

    return sk.Sequential(
        Fraction(),
        nn.Conv2d(1, 8, 5, stride=2, padding=2, bias=False),
        neurons(8),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        neurons(16),
        nn.Flatten(),
        nn.Linear(784, 10, bias=False),
        sk.LI(beta=1.0),
    )


def train(net: nn.Module, x: Tensor, labels: Tensor, epochs: int) -> None:
    """Adam on the sum that the readout holds in every step."""
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(labels)).split(50):
            output = net(x[:, chosen])
            loss = F.cross_entropy(output.flatten(0, 1), labels[chosen].repeat(len(output)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1}: loss {total / len(labels):.3f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threshold", type=float, default=0.1, help="of all neurons (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4000, help="to train on (default: %(default)s)")
    parser.add_argument("--test-images", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=9, help="frames a sequence, T (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--lava-samples", type=int, default=4, help="sequences run on Lava (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/changes"), help="(default: %(default)s)")
    given = parser.parse_args()
    start = time.monotonic()

    seed_all(0)
    x, labels = changes(MNIST("train"), given.images, given.steps, seed=0)
    unseen, wanted = changes(MNIST("test"), given.test_images, given.steps, seed=1)
    net = network(given.threshold)
    train(net, x, labels, given.epochs)
    net.eval()

    def right(output: Tensor) -> str:
        return f"{(output[-1].flatten(1).argmax(1) == wanted).float().mean().item():.2%}"

    with torch.no_grad():
        rows = [["float", right(net(unseen))]]
    chips = {bits: to_loihi(net, x[:, :100], weight_bits=bits) for bits in (8, 6, 4)}
    rows += [[f"{bits}-bit integers", right(chip.simulate(unseen))] for bits, chip in chips.items()]
    chip = chips[8]
    proofs = [chip.verify(unseen[:, : given.lava_samples], backend) for backend in ("lava-fixed", "lava-float")]
    for proof in proofs:
        compared = sum(layer.spikes + layer.membranes for layer in proof.layers)
        wrong = sum(proof.mismatches.values())
        rows.append([f"{proof.backend}, {proof.samples} sequences", f"{wrong} of {compared:,} numbers differ"])
    few = unseen[:, :100]
    reports = layer_reports(chip, few)
    dense = given.steps * sum(each.synapses.count for layer in chip.layers for each in layer.inputs)
    part = sum(report.synaptic_operations for report in reports) / dense
    rows.append(["products, of those of a network that computes every frame", f"{part:.1%}"])
    messages = [f"{layer.name}: {layer.message_bits}" for layer in chip.layers if layer.message_bits]
    rows.append(["bits of a message, by layer", ", ".join(messages)])
    print("\n" + layer_table(reports))
    print("\n" + loss_table(quantisation_loss(chip, few)))
    print("\n" + table(["result", f"MNIST, moving, {len(wanted)} test sequences"], rows))
    print(f"\nnetwork: {chip.save(given.out / 'net.npz')}   {time.monotonic() - start:.0f} s in all")
    return 0 if all(proof.identical for proof in proofs) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpikekitError as error:
        sys.exit(f"error: {error}")
