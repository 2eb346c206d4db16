"""Networks for `sk.checkpoint_time`, with what a call of each gives and keeps."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk

T, B = 13, 2


class Residual(nn.Module):
    """A network within the network, one of its neurons called twice."""

    def __init__(self):
        super().__init__()
        self.inner = sk.Sequential(nn.Linear(6, 6), sk.LIF(0.8, 0.4, "hard"), nn.Linear(6, 6))
        self.lif = sk.LIF(0.7, 0.5)

    def forward(self, x):
        return self.lif(x + self.inner(self.lif(2 * x)))


class Recurrent(nn.Module):
    """Feedback from spikes to drive by a loop of its own."""

    def __init__(self):
        super().__init__()
        self.back = nn.Linear(6, 6)
        self.lif = sk.LIF(0.8, 0.5, learn=("beta", "threshold"))

    def forward(self, x):
        def step(spikes, x_t):
            y = self.lif(x_t + self.back(spikes))
            return y[0], y

        return sk.scan(self, step, x, torch.zeros_like(x[0]))[0]


class Adapting(nn.Module):
    """Normalises by a running scale that it writes itself: what it returns depends on when it is asked."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        with torch.no_grad():
            self.scale.mul_(0.5).add_(x.abs().mean())
        return x / self.scale.clone()


def chain(*middle):
    return sk.Sequential(nn.Linear(6, 6), *middle, sk.LIF(0.8, 0.4), nn.Linear(6, 6), sk.LI(0.7))


def normalised():
    norm = nn.BatchNorm1d(6)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return chain(norm).eval()


NETS = {
    "chain": chain,
    "learned": lambda: sk.Sequential(
        nn.Linear(6, 6), sk.LIF(torch.rand(6), 0.4, learn=("beta", "threshold")), sk.LI(0.5, learn=("beta",))
    ),
    "residual": Residual,
    "recurrent": Recurrent,
    "normalised": normalised,
    "neuron": sk.LIF,
    "family": lambda: sk.Sequential(
        nn.Linear(6, 6), sk.CUBALIF(0.6, 0.8, 0.4, learn="alpha"), sk.RecurrentLIF(6, 0.8, 0.4, bias=True), sk.LI(0.7)
    ),
    "others": lambda: sk.Sequential(
        *(nn.Linear(6, 6), sk.ALIF(0.8, 0.4, step=0.2, learn=("rho", "step")), nn.Linear(6, 6)),
        *(sk.RefractoryLIF(2, 0.8, 0.3), nn.Linear(6, 6), sk.SigmaDelta(0.2, bias=0.1, learn="bias"), sk.LI(1.0)),
    ),
    "within itself": lambda: chain(sk.checkpoint_time(Recurrent(), 2), nn.BatchNorm1d(6).eval()),
}


def gradients(net, x, forward=None, seed=0):
    """Output and gradients of a loss that tells every step from every other."""
    torch.manual_seed(seed)
    y = (net if forward is None else forward)(x)
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    return y, torch.autograd.grad((y * weight).sum(), [x, *net.parameters()])


def in_pieces(net, chunk):
    """The same pieces by hand, with all their activations."""

    def forward(x):
        state, outputs = None, []
        for piece in x.split(chunk):
            y, state = sk.run(net, piece, state)
            outputs.append(y)
        return torch.cat(outputs)

    return forward
