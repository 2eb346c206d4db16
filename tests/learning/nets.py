"""Networks in float64 that the tests of OTTT share, of known decays and thresholds."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk

SURROGATE = sk.surrogate.Sigmoid(4.0)
BETAS = (0.5, 0.7, 0.9)
THRESHOLD = 0.1


def exactly(number):
    return torch.tensor(number, dtype=torch.float64)


def lif(beta):
    return sk.LIF(exactly(beta), exactly(THRESHOLD), surrogate=SURROGATE, detach_reset=True)


def dense(readout=True):
    b1, b2, b3 = BETAS
    layers = [nn.Linear(6, 8), lif(b1), nn.Linear(8, 7), lif(b2), nn.Linear(7, 3)]
    return sk.Sequential(*layers, *([sk.LI(exactly(b3))] if readout else [])).double()


def conv():
    b1, b2, _ = BETAS
    front = [nn.Conv2d(2, 4, 3, padding=1), lif(b1), nn.AvgPool2d(2), nn.Conv2d(4, 3, 2, stride=2), lif(b2)]
    return sk.Sequential(*front, nn.Flatten(), nn.Linear(12, 3)).double()


def drive(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2
