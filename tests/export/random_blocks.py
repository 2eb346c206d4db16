"""Random stacks of EMS and MS blocks, whose streams are sums of currents, pooled in every order that there is."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.export import LoihiNet, to_loihi
from spikekit.models import EMSBlock
from tests.export.random_graded import loud


class Maker:
    """Draws one network; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        torch.manual_seed(seed)
        self.shape = (self.draw.randint(1, 2), self.draw.choice([7, 8, 8, 12]), self.draw.choice([8, 8, 9]))
        self.in_shape = self.shape
        self.layers: list[nn.Module] = []

    def net(self) -> sk.Sequential:
        if self.draw.random() < 0.2:
            self.add(self.pool())
        channels = self.draw.randint(2, 4)
        self.add(
            nn.Conv2d(self.shape[0], channels, 3, self.draw.choice([1, 1, 1, 2]), 1, bias=self.draw.random() < 0.5)
        )
        self.add(nn.BatchNorm2d(channels))
        for _ in range(self.draw.choice([1, 2, 3, 3])):
            self.draw.choice([self.block] * 4 + [lambda: self.add(self.pool())])()
        kind = self.draw.random()
        if kind < 0.15 and min(self.shape[1:]) > 2:
            self.add(self.pool())
        else:
            self.add(self.neuron(self.shape[0]))
        if kind > 0.4:
            flat = int(torch.tensor(self.shape).prod())
            self.layers += [nn.Flatten(), nn.Linear(flat, 3), sk.LI(self.draw.choice([0.0, 0.9, 1.0]))]
        net = sk.Sequential(*self.layers)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.1, 0.5)
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.weight, -1.0, 1.0)
                nn.init.normal_(module.bias, 0.1, 0.2)
        return net.eval()

    def add(self, layer: nn.Module) -> None:
        self.layers.append(layer)
        zeros = torch.zeros(1, 1, *self.shape)
        temporal = isinstance(layer, EMSBlock)
        # Batch normalisation of one pixel would not do in train mode.
        out = layer.eval()(zeros) if temporal or isinstance(layer, sk.Neuron) else layer.eval()(zeros[0])[None]
        self.shape = tuple(out.shape[2:])

    def neuron(self, channels: int) -> nn.Module:
        if self.draw.random() < 0.4:
            return sk.presets.ems()
        reset, beta = self.draw.choice(["soft", "hard", "none"]), self.draw.choice([0.0, 0.25, 0.8])
        threshold = self.draw.choice([0.3, torch.rand(channels, 1, 1) * 0.5 + 0.1])
        if self.draw.random() < 0.2:
            return sk.CUBALIF(0.4, beta, threshold, reset=reset)
        return sk.LIF(beta, threshold, reset=reset, inclusive=self.draw.random() < 0.3)

    def pool(self) -> nn.Module:
        if min(self.shape[1:]) < 3:
            return nn.Identity()
        return self.draw.choice([nn.MaxPool2d(2), nn.MaxPool2d(2, 1), nn.MaxPool2d((1, 2)), nn.MaxPool2d((2, 1), 2)])

    def block(self) -> None:
        inputs, height, width = self.shape
        stride = 1 if height % 2 or width % 2 else self.draw.choice([1, 2, 2, 2])
        outputs, concat = self.draw.choice([inputs, inputs + 2, inputs + 2, 4]), self.draw.random() < 0.7
        self.add(
            EMSBlock(
                inputs,
                max(outputs, inputs) if concat else outputs,
                self.neuron,
                stride=stride,
                kernel=self.draw.choice([1, 3, 3]),
                hidden=self.draw.choice([None, 2]),
                concat=concat,
                shortcut=self.draw.choice(["ems", "ems", "ms"]),
            )
        )


def random_blocks(seed: int) -> tuple[sk.Sequential, Tensor]:
    """A network in eval mode and frames [T, B, C, H, W] for it: binary, or counts."""
    maker = Maker(seed)
    net = maker.net()
    steps, most = maker.draw.randint(3, 6), maker.draw.choice([1, 1, 3])
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, most + 1, (steps, 3, *maker.in_shape), generator=generator)
    return net, (counts * (torch.rand(counts.shape, generator=generator) < 0.4)).float()


def chips(seed: int) -> tuple[LoihiNet, LoihiNet, Tensor]:
    """An export, the same driven to its limits, and input for both."""
    net, x = random_blocks(seed)
    bits, thresholds = 8 - seed % 5, ("neuron", "neuron", "group", "layer")[seed % 4]
    chip = to_loihi(net, x, weight_bits=bits, thresholds=thresholds, headroom=1.0)
    return chip, loud(chip, x), x
