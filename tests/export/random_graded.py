"""Random networks with sigma-delta neurons, alone and beside others that spike, and the same driven to their limits."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.export import LoihiNet, to_loihi
from spikekit.export.integer import arriving, fire
from spikekit.export.integer_layer import EXPONENT_MAX
from spikekit.export.synapses import INPUT, SELF
from tests.export.random_nets import Residual


class Maker:
    """Draws one network; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        torch.manual_seed(seed)
        self.shape = (self.draw.randint(1, 3), self.draw.randint(4, 8), self.draw.randint(4, 8))
        self.in_shape = self.shape
        self.layers: list[nn.Module] = []

    def net(self) -> sk.Sequential:
        if self.draw.random() < 0.7:
            self.plain()
            for _ in range(self.draw.randint(0, 2)):
                self.draw.choice([self.plain, self.residual, self.residual, self.pooled, self.pooled, self.grown])()
        self.layers.append(nn.Flatten())
        features = int(torch.tensor(self.shape).prod())
        for _ in range(self.draw.randint(1, 3)):
            neurons = self.draw.randint(3, 12)
            self.layers += [nn.Linear(features, neurons, bias=False), self.neuron(neurons)]
            features = neurons
        kind = self.draw.random()
        if kind < 0.6:
            self.layers += [nn.Linear(features, 3), sk.LI(self.draw.choice([1.0, 1.0, 0.9, 0.0]))]
        elif kind < 0.75:
            self.layers += [nn.Linear(features, 4), sk.LIF(self.draw.choice([0.5, 0.9]), 0.3)]
        return sk.Sequential(*self.layers).eval()

    def neuron(self, channels: int) -> nn.Module:
        kind = self.draw.random()
        if self.layers and kind < 0.1:
            return sk.LIF(self.draw.choice([0.3, 0.9]), 0.3)
        if self.layers and kind < 0.15:
            return sk.CUBALIF(0.5, 0.8, 0.3, reset="hard")
        threshold = self.draw.choice([0.02, 0.1, 0.5, torch.rand(channels) * 0.4 + 0.01])
        bias = self.draw.choice([0.0, 0.2, torch.randn(channels) * 0.3])
        return sk.SigmaDelta(threshold, bias=bias, activation=self.draw.choice(["relu", "relu", "none"]))

    def conv(self, channels: int, same: bool = False) -> nn.Conv2d:
        inputs, height, width = self.shape
        kernel = self.draw.choice([1, 3]) if same or min(height, width) > 2 else 1
        stride = 1 if same else self.draw.choice([1, 1, 2])
        padding = kernel // 2 if same else self.draw.randint(0, kernel // 2)
        groups = self.draw.choice([g for g in (1, 1, inputs) if channels % g == 0])
        layer = nn.Conv2d(inputs, channels, kernel, stride, padding, groups=groups, bias=False)
        self.shape = tuple(layer(torch.zeros(1, *self.shape)).shape[1:])
        return layer

    def plain(self) -> None:
        channels = self.draw.choice([2, 3, 4, 2 * self.shape[0]])
        self.layers += [self.conv(channels), self.neuron(channels)]

    def residual(self) -> None:
        channels, kind = self.shape[0], self.draw.choice(["drive", "spikes", "concatenated"])
        branch: list[nn.Module] = [self.conv(channels, same=True)]
        if self.draw.random() < 0.5:
            branch += [self.neuron(channels), self.conv(channels, same=True)]
        self.layers.append(Residual(sk.Sequential(*branch), self.neuron(channels), kind))
        if kind == "concatenated":
            self.shape = (2 * channels, *self.shape[1:])

    def pooled(self) -> None:
        if min(self.shape[1:]) < 3:
            return
        pool = self.draw.choice([nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1, count_include_pad=False)])
        self.layers.append(pool)
        self.shape = tuple(pool(torch.zeros(1, *self.shape)).shape[1:])
        if self.draw.random() < 0.6:
            self.plain()

    def grown(self) -> None:
        if max(self.shape[1:]) <= 4:
            self.layers.append(nn.Upsample(scale_factor=2))
            self.shape = (self.shape[0], 2 * self.shape[1], 2 * self.shape[2])


def random_graded(seed: int) -> tuple[sk.Sequential, Tensor]:
    """A network in eval mode and changes of frames [T, B, C, H, W] for it, whole numbers of either sign."""
    maker = Maker(seed)
    net = maker.net()
    steps = maker.draw.randint(4, 10)
    generator = torch.Generator().manual_seed(seed)
    changes = torch.randint(-3, 4, (steps, 3, *maker.in_shape), generator=generator)
    return net, (changes * (torch.rand(changes.shape, generator=generator) < 0.4)).float()


def loud(chip: LoihiNet, x: Tensor) -> LoihiNet:
    """The same with sums shifted until they wrap, states at their limits, and messages of fewer bits than they need."""
    sent, layers = {INPUT: x}, []
    for number, layer in enumerate(chip.layers):
        quiet = replace(layer, exponent=0)
        sums = arriving(quiet, sent)
        peak = max(int(sums.abs().max()), 1) + sum(p.synapses.most << p.shift for p in layer.inputs if p.source == SELF)
        # At most what Lava's own sums hold, whatever the messages.
        worst = sum(p.synapses.most * (layers[p.source].largest if p.source >= 0 else 2**10) for p in layer.inputs)
        most = min(EXPONENT_MAX - max(p.shift for p in layer.inputs), (2**30 // max(worst << 7, 1)).bit_length() + 6)
        wished = ((2**24 - 1) // peak).bit_length() - 1
        layers.append(replace(layer, exponent=max(0, min(most, wished))))
        if layer.message_bits is not None:
            layers[-1] = replace(layers[-1], message_bits=max(2, layer.message_bits - number % 3))
        sent[number] = fire(layers[-1], sums)[0]
    return LoihiNet(tuple(layers), chip.plan, chip.in_shape)


def chips(seed: int) -> tuple[LoihiNet, LoihiNet, Tensor, Tensor]:
    """An export and input for it; the same driven to its limits, and input for that."""
    net, x = random_graded(seed)
    bits, thresholds = 8 - seed % 5, ("neuron", "neuron", "group", "layer")[seed % 4]
    chip = to_loihi(net, x, weight_bits=bits, thresholds=thresholds, headroom=1.0)
    strong = x * 2 ** (seed % 3 * 4)
    return chip, loud(chip, strong), x, strong
