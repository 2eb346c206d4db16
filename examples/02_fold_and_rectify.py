"""What two papers do to a membrane, and what is left of it at inference: rectify, normalise, fold, prove.

    python examples/02_fold_and_rectify.py            # under a minute; writes runs/fold/fold.png

Trains the same small convolutional network twice for a few passes over real N-MNIST (the embedded synthetic set where
N-MNIST is not found): with soft reset and the membrane potential rectifier (Guo et al. 2022), and with membrane
potential batch normalisation (Guo et al. 2023). Folds the second, proves that no decision changed, and draws what the
rectifier does to the membranes and what the norms became: thresholds. Every fourth weight of the norms starts at -1
instead of 1, so that there are channels of both directions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.errors import SpikekitError, require
from spikekit.task import Task
from spikekit.train import CrossEntropy, decode, seed_all

BLUE, ORANGE, GREEN, GREY = "#3366aa", "#dd7722", "#338844", "#666666"


def network(neuron: Callable[[int], sk.LIF]) -> sk.Sequential:
    """Two convolutions, a dense layer and a readout, on frames [T, B, 2, 34, 34]."""
    return sk.Sequential(
        *(nn.Conv2d(2, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), neuron(16)),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), neuron(32)),
        *(nn.Flatten(), nn.Linear(32 * 81, 64, bias=False), nn.BatchNorm1d(64), neuron(64)),
        *(nn.Linear(64, 10), sk.LI(0.95)),
    )


def normalised(channels: int) -> sk.LIF:
    """MPBN's neuron; every fourth channel starts with a weight of -1."""
    lif = sk.presets.mpbn(channels)
    with torch.no_grad():
        lif.norm.weight[::4] *= -1
    return lif


def train(net: sk.Sequential, x: Tensor, labels: Tensor, epochs: int) -> sk.Sequential:
    """A few passes of Adam over frames x [T, N, 2, 34, 34]; the network in eval mode."""
    optimiser, loss = torch.optim.Adam(net.parameters(), lr=3e-3), CrossEntropy()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(50):
            optimiser.zero_grad()
            loss(net(x[:, batch]), labels[batch]).backward()
            optimiser.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    return float((decode(net(x)) == labels).float().mean())


def draw_rectifier(axes: Any, u: Tensor) -> None:
    """Membranes before and after the rectifier, and how far both are from the spike they become."""
    phi, bins = sk.MPR()(u), [-1.5 + 0.04 * i for i in range(101)]
    spikes = (u > 0.5).float()
    for values, colour, name in ((u, GREY, "membrane u"), (phi, BLUE, "rectified φ(u)")):
        error = float((values - spikes).square().mean())
        label = f"{name}: mean (· − s)² = {error:.3f}"
        axes.hist(values.numpy(), bins, density=True, color=colour, alpha=0.55, label=label)
    axes.axvline(0.5, color=ORANGE, linestyle="--", linewidth=1)
    axes.annotate("threshold ½", (0.53, 0.5), xycoords=("data", "axes fraction"), color=ORANGE, fontsize=8)
    axes.set(xlim=(-1.5, 2.5), xlabel="membrane of conv 2 before the decision", ylabel="density")
    axes.set_title("Before and after MPR: pulled towards 0 and 1, the same spikes", fontsize=10)
    axes.legend(fontsize=8, loc="upper right")


def draw_curve(axes: Any) -> None:
    """The rectifier and its slope, which is the gradient of the spike where it is not cut off."""
    u = torch.linspace(-1.5, 2.5, 801)
    axes.plot(u, u, color=GREY, linewidth=1, linestyle=":", label="u")
    axes.plot(u, sk.MPR()(u), color=BLUE, label="φ(u)")
    gradient = sk.MPR().surrogate(0.5).derivative(u - 0.5)
    axes.plot(u, gradient, color=GREEN, label="gradient of the spike")
    axes.axvline(0.5, color=ORANGE, linestyle="--", linewidth=1)
    axes.set(xlim=(-1.5, 2.5), ylim=(-1.5, 2.5), xlabel="membrane u")
    axes.set_title("The rectifier", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")


def draw_thresholds(axes: Any, folded: nn.Module) -> None:
    """Every channel's folded threshold, layer beside layer, by the side on which it fires."""
    start, ticks = 0, []
    for name, module in folded.named_modules():
        if not isinstance(module, sk.FoldedLIF):
            continue
        order = module.threshold.argsort()
        level, sign = module.threshold[order], module.sign[order]
        x = torch.arange(len(level)) + start
        for side, colour, marker in ((1, BLUE, "^"), (-1, ORANGE, "v")):
            chosen = sign == side
            axes.scatter(x[chosen], level[chosen], s=14, color=colour, marker=marker, linewidths=0)
        kind = {16: "conv 1", 32: "conv 2", 64: "dense"}[len(level)]
        ticks.append((start + len(level) / 2 - 0.5, f"{kind}, layer {name}\n{len(level)} thresholds"))
        start += len(level) + 6
        axes.axvline(start - 3.5, color="#dddddd", linewidth=0.8)
    axes.axhline(0.5, color=GREY, linestyle="--", linewidth=1, label="½, what BN(u) was compared with")
    axes.scatter([], [], s=20, color=BLUE, marker="^", label="weight > 0: fires where u is above")
    axes.scatter([], [], s=20, color=ORANGE, marker="v", label="weight < 0: fires where u is below")
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=8)
    axes.set_ylabel("folded threshold of u")
    axes.set_xlim(-3, start - 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/fold/fold.png"), help="(default: %(default)s)")
    given = parser.parse_args()
    plt = require("matplotlib.pyplot", "viz")
    start = time.monotonic()

    task = Task(bins=4).resolved()
    (x, labels), (test, expected) = (
        (frames.frames.float().transpose(0, 1).contiguous(), frames.labels)
        for frames in (task.frames("train"), task.frames("test"))
    )
    print(f"data: {task.data}, {len(labels)} training and {len(expected)} test recordings", flush=True)
    networks = {}
    for name, neuron in (("MPR", lambda _: sk.presets.inflor_snn()), ("MPBN", normalised)):
        seed_all(0)
        networks[name] = train(network(neuron), x, labels, given.epochs)
        print(
            f"{name}: test accuracy {accuracy(networks[name], test, expected):.1%} after {given.epochs} epochs",
            flush=True,
        )

    folded = sk.fold(networks["MPBN"])
    print(f"\n{folded.fold_report}\n")
    proof = sk.verify_fold(networks["MPBN"], test, folded)
    print(proof)
    print(f"folded: test accuracy {accuracy(folded, test, expected):.1%}")

    with torch.no_grad():
        _, seen = sk.record(networks["MPR"], test, "5.membrane")
    figure, axes = plt.subplot_mosaic(
        [["curve", "membranes"], ["folded", "folded"]], figsize=(10, 7.2), width_ratios=[1, 2]
    )
    draw_curve(axes["curve"])
    draw_rectifier(axes["membranes"], seen["5.membrane"].flatten())
    draw_thresholds(axes["folded"], folded)
    title = f"MPBN folded into thresholds: {proof.away} of {proof.decisions:,} decisions differ away from ties"
    axes["folded"].set_title(title, fontsize=10)
    axes["folded"].legend(fontsize=8, loc="best")
    for each in axes.values():
        each.spines[["top", "right"]].set_visible(False)
    where = {"nmnist": "real N-MNIST"}.get(task.data, task.data)
    figure.suptitle(f"A small conv net on {where}, {given.epochs} epochs", fontsize=11)
    figure.tight_layout()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.out, dpi=110)
    print(f"\npicture: {given.out}   {time.monotonic() - start:.0f} s in all")
    return 0 if proof.exact else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpikekitError as error:
        sys.exit(f"error: {error}")
