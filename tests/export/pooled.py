"""Networks that pool currents."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk


def pooled_net(pool=None, seed=0, channels=3):
    """Convolution, norm, max pooling, neuron, and a readout behind it; on frames (2, 8, 7)."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.running_var, 0.1, 0.4)
    nn.init.normal_(norm.bias, 0, 0.3)
    layers = [nn.Conv2d(2, channels, 3, padding=1), norm, pool or nn.MaxPool2d(2), sk.LIF(0.8, 0.4)]
    flat = nn.Sequential(*layers[:3], nn.Flatten()).eval()(torch.zeros(1, 2, 8, 7)).shape[1]
    return sk.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 3), sk.LI(0.9)).eval()


class Stream(nn.Module):
    """Currents, spikes, messages of another maximum and the input side by side, pooled."""

    temporal = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first = sk.Sequential(nn.Conv2d(2, 4, 3, padding=1), sk.LIF(0.8, 0.3))
        self.second = sk.fold_time(nn.MaxPool2d(2, 1))
        self.conv = sk.fold_time(nn.Conv2d(4, 4, 2, bias=False))
        self.cut = sk.fold_time(nn.AvgPool2d(2, 1))
        self.pool = sk.fold_time(nn.MaxPool2d((2, 3), (2, 1)))
        self.last = sk.Sequential(nn.Conv2d(10, 3, 1), sk.LIF(0.8, 0.3))

    def forward(self, x):
        spikes = self.first(x)
        numbers = self.second(-spikes)
        return self.last(self.pool(torch.cat([self.conv(spikes) + numbers, self.cut(x), numbers], 2)))
