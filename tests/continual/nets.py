"""Small networks in float64 whose layers know the span of an old task's inputs, and steps on a new one."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD

import spikekit as sk
from spikekit.continual import Batch
from spikekit.continual.subspace import inputs
from spikekit.learning import presynaptic

SHAPES = {"mlp": (12,), "conv": (2, 6, 6)}


def build(kind):
    """Wide against what four old samples of three steps can span; the same weights every time."""
    torch.manual_seed(5)
    if kind == "mlp":
        layers = (
            nn.Linear(12, 40, bias=False),
            sk.LIF(0.5),
            nn.Linear(40, 32, bias=False),
            sk.LIF(0.5),
            nn.Linear(32, 3),
        )
        return lively(sk.Sequential(*layers))
    net = sk.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1, bias=False), sk.LIF(0.5), nn.Conv2d(8, 6, 3, stride=2, bias=False)),
        *(sk.LIF(0.5), nn.Flatten(), nn.Linear(24, 3)),
    )
    return lively(net)


def lively(net):
    """With weights that make every layer fire."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 3
    return net.double()


def drive(kind, seed, steps=3, batch=4):
    """Sparse inputs whose span is small: few samples, and for images few active places."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *SHAPES[kind], generator=generator, dtype=torch.float64) * 3
    if kind == "conv":
        kept = torch.zeros_like(x)
        kept[:1, :, 2:4, 2:4] = x[:1, :, 2:4, 2:4]
        x = kept[:1]
    return x.expand(steps, *x.shape)


def span(rows):
    """Orthonormal rows that span `rows`."""
    _, sizes, vectors = torch.linalg.svd(rows, full_matrices=False)
    return vectors[sizes > 1e-10 * sizes[0]]


def teach(method, x):
    """Give every layer of a projecting method the exact span of what it is given for x, as its first task."""
    seen = {}

    def hear(name, layer, signal):
        seen.setdefault(name, []).append(inputs(layer, signal))

    modes = {module: module.training for module in method.net.modules()}
    with torch.no_grad(), presynaptic(method.net, hear):
        method.net(x)
    method.begin_task()
    method.end_task(())
    for name, signals in seen.items():
        if name in method.spaces:
            rows = span(torch.cat(signals))
            assert 0 < len(rows) < method.spaces[name].width
            method.spaces[name].restore(rows, len(rows))
    method.begin_task()
    # As the network was when it was listened to, and as nothing but normalisation would change it.
    for module, mode in modes.items():
        module.training = mode


def cross_entropy(output):
    return functional.cross_entropy(output.mean(0), torch.arange(output.shape[1]) % 3)


X = drive("mlp", 1)
BATCH = Batch(X, torch.tensor([0, 1, 2, 0]))


def learn(method, steps=1, optimizer=None, x=X, rule=None):
    for _ in range(steps):
        method.step(x, cross_entropy, optimizer or SGD(method.parameters(), lr=0.1), rule)


def normed():
    return sk.Sequential(
        nn.Linear(12, 20), nn.BatchNorm1d(20), sk.LIF(0.5, 1.0, learn=("threshold",)), nn.Linear(20, 3, bias=False)
    ).double()
