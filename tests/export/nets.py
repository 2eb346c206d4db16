"""Random networks for the tests of the exporter."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk


def conv_net(seed: int = 0, reset: str = "soft", **settings: object) -> sk.Sequential:
    """Conv, BatchNorm with random statistics, LIF, dense LIF, readout; on frames (2, 8, 7)."""
    torch.manual_seed(seed)
    net = sk.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        sk.LIF(0.8, torch.tensor([0.6, 0.8, 1.0, 1.2]), reset=reset, **settings),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64, 12),
        sk.LIF(0.9, 0.3, reset=reset, **settings),
        nn.Linear(12, 3),
        sk.LI(0.95),
    )
    norm = net[1]
    nn.init.normal_(norm.running_mean, 0, 0.2)
    nn.init.uniform_(norm.running_var, 0.05, 0.3)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.normal_(norm.bias, 0, 0.3)
    return net.eval()


def frames(batch: int = 6, steps: int = 9, density: float = 0.3, seed: int = 1) -> torch.Tensor:
    """Binary frames [T, B, 2, 8, 7]."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, 2, 8, 7, generator=generator) < density).float()
