"""Why membrane potential batch normalisation loses accuracy where membranes start at rest: whose statistics decide.

    python -m benchmarks.mpbn_statistics            # a minute or two

Trains the arm of `benchmarks.ablation_reset` that lost most, hard reset with MPR and MPBN on N-MNIST at T = 4, and
looks at the test set with the statistics that the method keeps (one mean and variance for all steps), with those of the
test batch at each step, as in training, and with the method's own after ten passes over the training set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import torch
from torch import Tensor, nn

import spikekit as sk
from benchmarks.ablation_run import Run, frames, parts, train
from benchmarks.table import grid
from spikekit.train import decode


def norms(net: nn.Module) -> list[sk.MPBN]:
    return [module for module in net.modules() if isinstance(module, sk.MPBN)]


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    return float((decode(net(x)) == labels).float().mean())


@torch.no_grad()
def by_batch(net: nn.Module, x: Tensor, labels: Tensor) -> float:
    """The accuracy where each step is normalised by its own batch; the network is in eval mode but for that."""
    kept = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms(net)]
    for norm in norms(net):
        norm.train()
    found = accuracy(net, x, labels)
    for norm, (mean, var) in zip(norms(net), kept, strict=True):
        norm.eval()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
    return found


@torch.no_grad()
def settle(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Running statistics that are close to the mean over all steps and batches."""
    for norm in norms(net):
        norm.train()
        norm.momentum = 0.01
    for x, _ in batches:
        net(x)
    net.eval()


@torch.no_grad()
def spread(net: nn.Module, x: Tensor) -> list[list[float]]:
    """Mean membrane of each spiking layer at each step."""
    layers = [name for name, module in net.named_modules() if isinstance(module, sk.LIF)]
    _, traces = sk.record(net, x, [f"{name}.membrane" for name in layers])
    return [[float(u.mean()) for u in traces[f"{name}.membrane"]] for name in layers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    rows, membranes = [], []
    for seed in range(parser.parse_args().seeds):
        run = Run("test", "nmnist", 4, "hard", True, True, seed, 4e-3)
        indices, judged = parts(run)
        net, _, trained = train(run, indices)
        x, labels = next(iter(judged))
        net.eval()
        running, batch = accuracy(net, x, labels), by_batch(net, x, labels)
        samples = frames(run.data, run.steps, "train")
        settle(net, (pair for epoch in range(10) for pair in samples.loader(100, shuffle=True, seed=epoch)))
        found = (trained, running, batch, accuracy(net, x, labels))
        rows.append([str(seed), *(f"{100 * share:.1f}" for share in found)])
        membranes = spread(net, x)
        print(f"seed {seed}: {rows[-1][1:]}", flush=True)
    head = ["seed", "training, last epoch", "test, kept statistics", "test, of the batch at each step", "test, settled"]
    print("\n" + "\n".join(grid(head, rows)))
    print("Mean membrane of each spiking layer at steps 1 to 4, last seed:")
    for layer in membranes:
        print("  " + ", ".join(f"{mean:.2f}" for mean in layer))


if __name__ == "__main__":
    main()
