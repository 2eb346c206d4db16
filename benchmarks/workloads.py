"""The networks that are measured and their synthetic input: weights scaled so that every hidden layer fires alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

import spikekit as sk
from benchmarks.contenders import BETA

# Part of the neurons of a hidden layer that fire at a step.
RATE = 0.05
# Weights are multiples of this: sums of spikes are then exact in float32, whatever the order a library adds in, and
# spikes can be compared one by one.
GRID = 2.0**-16


@dataclass(frozen=True)
class Workload:
    """A task: binary frames x [T, B, ...], labels [B], and stages of weights, each but the last before a neuron."""

    name: str
    x: Tensor
    labels: Tensor
    stages: list[nn.Sequential]

    def first(self, steps: int) -> Workload:
        """The same with the first steps of the frames alone."""
        return Workload(self.name, self.x[:steps].contiguous(), self.labels, self.stages)

    def neurons(self) -> int:
        """Hidden neurons of one step, batch included."""
        x, neurons = self.x[0], 0
        with torch.no_grad():
            for stage in self.stages[:-1]:
                x = stage(x)
                neurons += x.numel()
        return neurons


def binary_frames(shape: Sequence[int], density: float, generator: torch.Generator) -> Tensor:
    """Independent spikes with the given probability, as float32."""
    return (torch.rand(*shape, generator=generator) < density).float()


def calibrate(stages: Sequence[nn.Sequential], x: Tensor, rate: float = RATE) -> None:
    """Scale the weights of each stage but the last so that its neurons fire at `rate`, and round them to `GRID`.

    x: frames [T, B, ...]; biases must be zero.
    """
    leading, spikes = x.shape[:2], x.flatten(0, 1)
    neuron = sk.LIF(BETA)
    with torch.no_grad():
        for stage in stages[:-1]:
            drive = stage(spikes).unflatten(0, leading)
            low, high = 2.0**-10, 2.0**10
            for _ in range(20):
                middle = (low * high) ** 0.5
                low, high = (low, middle) if neuron(drive * middle).mean() > rate else (middle, high)
            for parameter in stage.parameters():
                parameter.copy_((parameter * low / GRID).round() * GRID)
            spikes = neuron(stage(spikes).unflatten(0, leading)).flatten(0, 1)


def _zero_bias(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with a bias of zero, as a folded BatchNorm would leave it one."""
    layer.bias = nn.Parameter(torch.zeros(layer.weight.shape[0]))
    return layer


def mlp(steps: int = 100, batch: int = 64, density: float = 0.05) -> Workload:
    """700-256-256-20, the sizes of Spiking Heidelberg Digits, on independent random spikes."""
    generator = torch.Generator().manual_seed(0)
    x = binary_frames((steps, batch, 700), density, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = [nn.Sequential(_zero_bias(nn.Linear(a, b))) for a, b in pairwise((700, 256, 256, 20))]
    calibrate(stages, x[:, :8])
    return Workload("mlp", x, torch.randint(20, (batch,), generator=generator), stages)


def conv(steps: int = 16, batch: int = 32, density: float = 0.05) -> Workload:
    """`sk.models.event_conv`, the network of `make demo`, with BatchNorm folded away and no dropout.

    Statistics over time would differ between a loop over time and a loop over layers; folded they are weights.
    """
    generator = torch.Generator().manual_seed(0)
    x = binary_frames((steps, batch, 2, 34, 34), density, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = sk.models.event_conv()
    stages: list[nn.Sequential] = []
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layers.append(_zero_bias(layer))
        elif isinstance(layer, nn.Flatten):
            layers.append(layer)
        elif isinstance(layer, sk.LIF | sk.LI):
            stages.append(nn.Sequential(*layers))
            layers = []
    calibrate(stages, x[:, :8])
    return Workload("conv", x, torch.randint(10, (batch,), generator=generator), stages)
