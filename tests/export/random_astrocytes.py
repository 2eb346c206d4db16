"""Random networks with astrocytes over their neurons, some of which sense what arrives, and the same at its limits."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np
import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.export import LoihiNet
from spikekit.export.integer_layer import IntegerLayer
from tests.export import random_nets


class Maker(random_nets.Maker):
    """Draws one network; the same for the same seed."""

    def neuron(self, channels: int) -> nn.Module:
        return self.modulated(channels, channels, "post") if self.draw.random() < 0.6 else super().neuron(channels)

    def modulated(self, channels: int, arriving: int, senses: str) -> sk.LIF:
        common = gcd(channels, arriving)
        domains = self.draw.choice([d for d in range(1, common + 1) if common % d == 0])
        scales = self.draw.sample([0.5, 1.5, 4.0, 20.0, 300.0, 3000.0], self.draw.randint(1, 3))
        astrocyte = sk.Astrocyte(
            domains,
            scales,
            self.draw.choice(["gain", "gain", "threshold", "threshold", "plasticity"]),
            senses,
            self.draw.choice([0.0, 0.9, torch.rand(domains) * 1.9 - 0.95]),
            weight=torch.randn(domains, len(scales)) * self.draw.choice([0.0, 1.0, 6.0]),
            bias=torch.randn(domains) * self.draw.choice([0.0, 0.5, 3.0]),
        )
        quantum = self.draw.choice([None, 0.45])
        threshold = self.draw.choice([0.3, torch.rand(channels) * 0.5 + 0.1])
        settings = {"reset": self.reset(), "inclusive": self.draw.random() < 0.3, "astrocyte": astrocyte}
        if settings["reset"] == "soft":
            settings["reset_quantum"] = quantum
        return sk.LIF(self.beta(), threshold, **settings)

    def dense(self, inputs: int, features: int) -> None:
        if self.layers and self.draw.random() < 0.4:
            self.layers += [nn.Linear(inputs, 2 * features), sk.LIF(self.beta(), 0.3)]
            synapse = nn.Linear(2 * features, features)
            self.layers.append(sk.TripartiteSynapse(synapse, self.modulated(features, 2 * features, self.sensed())))
        else:
            super().dense(inputs, features)

    def plain(self) -> None:
        # What the first layer hears are spikes, too.
        if min(self.shape[1:]) < 3 or not (self.bare or not self.layers) or self.draw.random() < 0.4:
            super().plain()
            return
        arriving, channels = self.shape[0], self.draw.choice([2, 4, 2 * self.shape[0]])
        synapse = nn.Sequential(*self.conv(channels))
        self.layers.append(sk.TripartiteSynapse(synapse, self.modulated(channels, arriving, self.sensed())))
        self.bare = True

    def residual(self) -> None:
        super().residual()
        # So that spikes of two layers, side by side, are sensed now and then.
        if self.bare and self.draw.random() < 0.7:
            self.plain()

    def sensed(self) -> str:
        return self.draw.choice(["pre", "both"])


def random_astrocytes(seed: int) -> tuple[sk.Sequential, Tensor]:
    """A network in eval mode and binary frames [T, B, C, H, W] for it."""
    maker = Maker(seed)
    net = maker.net()
    steps = maker.draw.randint(8, 20)
    generator = torch.Generator().manual_seed(seed)
    return net, (torch.rand(steps, 3, *maker.in_shape, generator=generator) < 0.4).float()


def wild(layer: IntegerLayer, seed: int) -> IntegerLayer:
    """The layer with an astrocyte of any numbers that one may have: table and calcium go from end to end."""
    if (own := layer.astrocyte) is None:
        return layer
    rng, shape = np.random.default_rng(seed), own.decay.shape
    return replace(
        layer,
        astrocyte=replace(
            own,
            share=min(3 * own.share, 2**22),
            heard_share=min(3 * own.heard_share, 2**22),
            decay=rng.choice([1, 40, 900, 4095, 4096], shape),
            weight=rng.integers(-4096, 4097, shape),
            offset=rng.integers(0, 2**24, shape[0]),
            table=rng.integers(0, 8193, own.table.shape),
        ),
    )


def chips(seed: int) -> tuple[LoihiNet, LoihiNet, Tensor]:
    """An export, the same driven to its limits, and input for both."""
    net, x = random_astrocytes(seed)
    chip, loud = random_nets.chips(net, x, seed)
    return chip, replace(loud, layers=tuple(wild(layer, seed) for layer in loud.layers)), x
