"""Random networks over every part that can be exported, in which something fires in every layer."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.export import LoihiNet, to_loihi
from spikekit.export.integer_layer import EXPONENT_MAX


class Residual(nn.Module):
    """A block whose drive is a branch plus a shortcut of spikes, and whose spikes go on beside those of its input."""

    temporal = True

    def __init__(self, branch: sk.Sequential, neuron: nn.Module, kind: str) -> None:
        super().__init__()
        self.branch, self.neuron, self.kind = branch, neuron, kind

    def forward(self, x: Tensor) -> Tensor:
        branch = self.branch(x)
        if self.kind == "drive":
            return self.neuron(branch + x)
        spikes = self.neuron(branch)
        if self.kind == "spikes":
            return spikes + x
        return torch.cat([spikes, x], 2)


class Maker:
    """Draws one network; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        torch.manual_seed(seed)
        self.shape = (self.draw.randint(1, 3), self.draw.randint(5, 9), self.draw.randint(5, 9))
        self.in_shape = self.shape
        self.layers: list[nn.Module] = []
        # Whether spikes and nothing else come out of the last layer.
        self.bare = False

    def net(self) -> sk.Sequential:
        for _ in range(self.draw.randint(1, 3)):
            self.draw.choice([self.plain, self.plain, self.residual, self.pooled, self.grown])()
        if self.draw.random() < 0.75:
            self.layers.append(nn.Flatten())
            features, n = self.draw.randint(3, 12), int(torch.tensor(self.shape).prod())
            self.dense(n, features)
            if self.draw.random() < 0.4:
                self.layers.append(sk.RecurrentLIF(features, self.beta(), 0.4, self.reset()))
            if self.draw.random() < 0.5:
                self.layers += [nn.Linear(features, 3), nn.BatchNorm1d(3), sk.LI(self.beta())]
        elif not isinstance(self.layers[-1], (sk.LIF, sk.CUBALIF, nn.MaxPool2d)):
            self.layers += [nn.Conv2d(self.shape[0], 2, 1), self.neuron(2)]
        net = sk.Sequential(*self.layers)
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.running_var, 0.05, 0.4)
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.normal_(module.bias, 0.1, 0.2)
        return net.eval()

    def beta(self) -> float:
        return self.draw.choice([0.0, 0.3, 0.8, 0.95, 1.0])

    def reset(self) -> str:
        return self.draw.choice(["soft", "soft", "hard", "none"])

    def neuron(self, channels: int) -> nn.Module:
        threshold = self.draw.choice([0.3, torch.rand(channels) * 0.5 + 0.1])
        settings = {"reset": self.reset(), "inclusive": self.draw.random() < 0.3}
        if settings["reset"] == "soft" and self.draw.random() < 0.3:
            settings["reset_quantum"] = 0.45
        kind = self.draw.random()
        if kind < 0.2:
            return sk.CUBALIF(self.beta(), self.beta(), threshold, **settings)
        if kind < 0.26:
            return sk.IF(threshold, **settings)
        if kind < 0.34:
            return sk.ALIF(self.beta(), threshold, rho=self.beta(), step=self.draw.choice([0.05, 0.3]), **settings)
        if kind < 0.42:
            return sk.RefractoryLIF(self.draw.randint(1, 3), self.beta(), threshold, **settings)
        if kind < 0.55 and settings["reset"] == "hard":
            norm = sk.MPBN(channels)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_var, 0.3, 1.0)
            norm.num_batches_tracked.add_(1)
            return sk.LIF(self.beta(), 0.4, norm=norm, **settings)
        return sk.LIF(self.beta(), threshold, **settings)

    def conv(self, channels: int, same: bool = False) -> list[nn.Module]:
        inputs, height, width = self.shape
        kernel = self.draw.choice([1, 3] if same else [1, 2, 3, (3, 2)])
        wide = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        stride = 1 if same else self.draw.choice([1, 1, 2])
        padding = (wide[0] // 2, wide[1] // 2) if same else (self.draw.randint(0, 1), self.draw.randint(0, 1))
        dilation = 2 if not same and min(height, width) > 6 and self.draw.random() < 0.2 else 1
        groups = self.draw.choice([g for g in (1, 1, 2, inputs) if inputs % g == 0 and channels % g == 0])
        layer = nn.Conv2d(inputs, channels, kernel, stride, padding, dilation, groups)
        out = layer(torch.zeros(1, *self.shape)).shape[1:]
        self.shape = tuple(out)
        norm = [nn.BatchNorm2d(channels)] if self.draw.random() < 0.5 else []
        return [layer, *norm]

    def dense(self, inputs: int, features: int) -> None:
        self.layers += [nn.Linear(inputs, features), self.neuron(features)]

    def plain(self) -> None:
        if min(self.shape[1:]) < 3:
            return
        channels = self.draw.choice([2, 3, 4, 2 * self.shape[0]])
        self.layers += [*self.conv(channels), self.neuron(channels)]
        self.bare = True

    def residual(self) -> None:
        if not self.layers:
            self.plain()
        channels, kind = self.shape[0], self.draw.choice(["drive", "spikes", "concatenated"])
        branch = [*self.conv(channels, same=True)]
        if self.draw.random() < 0.5:
            branch += [self.neuron(channels), *self.conv(channels, same=True)]
        self.layers.append(Residual(sk.Sequential(*branch), self.neuron(channels), kind))
        if kind == "concatenated":
            self.shape = (2 * channels, *self.shape[1:])
        self.bare = self.bare and kind != "spikes"

    def pooled(self) -> None:
        if not self.layers:
            self.plain()
        if min(self.shape[1:]) < 3:
            return
        choices = [
            nn.AvgPool2d(2),
            nn.AvgPool2d(3, 2, 1),
            nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
            nn.AvgPool2d(2, divisor_override=1),
            nn.AdaptiveAvgPool2d(2),
        ]
        if self.bare:
            choices += [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)]
        pool = self.draw.choice(choices)
        self.layers.append(pool)
        self.shape = tuple(pool(torch.zeros(1, *self.shape)).shape[1:])
        self.bare = isinstance(pool, nn.MaxPool2d)

    def grown(self) -> None:
        if not self.layers or max(self.shape[1:]) > 6:
            self.plain()
            return
        self.layers.append(nn.Upsample(scale_factor=2))
        self.shape = (self.shape[0], 2 * self.shape[1], 2 * self.shape[2])
        self.bare = False


def chips(net: nn.Module, x: Tensor, seed: int) -> tuple[LoihiNet, LoihiNet]:
    """An export, and the same with sums shifted until currents wrap and membranes saturate."""
    bits, thresholds = 8 - seed % 5, ("neuron", "group", "layer")[seed % 3]
    chip = to_loihi(net, x, weight_bits=bits, thresholds=thresholds, headroom=1.0)
    shifted = []
    for layer in chip.layers:
        most = EXPONENT_MAX - max(each.shift for each in layer.inputs)
        # A kept current takes one bit more, and Lava's shift of 32 bits is not to be lost.
        reach = max(sum(each.synapses.most << each.shift for each in layer.inputs), 1)
        shifted.append(replace(layer, exponent=min(most, max(layer.exponent, (2**24 // reach).bit_length() - 2))))
    return chip, LoihiNet(tuple(shifted), chip.plan, chip.in_shape)


def random_net(seed: int) -> tuple[sk.Sequential, Tensor]:
    """A network in eval mode and binary frames [T, B, C, H, W] for it."""
    maker = Maker(seed)
    net = maker.net()
    steps = maker.draw.randint(3, 8)
    generator = torch.Generator().manual_seed(seed)
    return net, (torch.rand(steps, 3, *maker.in_shape, generator=generator) < 0.4).float()
