"""What training measures: loss, accuracy and firing, of one pass over a loader and of one epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from spikekit.measure.activity import LayerActivity


@dataclass(frozen=True)
class Metrics:
    """One pass over a loader: mean loss a sample, fraction classified right, what each spiking layer did.

    With a loss that has a `score`, accuracy is the mean of that.
    """

    loss: float
    accuracy: float
    samples: int
    layers: tuple[LayerActivity, ...] = ()

    @property
    def rates(self) -> dict[str, float]:
        """Firing rate of each spiking layer, in spikes per neuron per time step."""
        return {row.name: row.rate for row in self.layers}

    @property
    def dead(self) -> list[str]:
        """Names of the spiking layers that ran and never fired."""
        return [row.name for row in self.layers if row.dead]


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its number from 1, optimizer steps so far, learning rate at its end, seconds."""

    epoch: int
    step: int
    lr: float
    seconds: float
    train: Metrics
    val: Metrics | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Epoch:
        """The inverse of `to_json`."""
        train, val = (_metrics(values[which]) for which in ("train", "val"))
        if train is None:
            raise ValueError("an epoch without training metrics")
        return cls(**{**values, "train": train, "val": val})


def _metrics(values: Mapping[str, Any] | None) -> Metrics | None:
    if values is None:
        return None
    layers = tuple(LayerActivity(**row) for row in values["layers"])
    return Metrics(**{**values, "layers": layers})


class Tally:
    """Running sums of one pass, kept on the device: [loss·samples, correct, samples]."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(3, dtype=dtype, device=device)

    def add(self, loss: Tensor, correct: Tensor, count: int) -> None:
        """Count one batch of `count` samples: mean loss (scalar), and how many are right (scalar)."""
        self.sums += torch.stack([loss.detach().to(self.sums.dtype) * count, correct, correct.new_tensor(count)])

    def merge(self, reduce: Callable[[Tensor, str], Tensor]) -> None:
        """Add up the sums of all processes."""
        self.sums = reduce(self.sums, "sum")

    def result(self, layers: list[LayerActivity]) -> Metrics:
        """The means; waits for the device."""
        loss, correct, samples = self.sums.tolist()
        return Metrics(loss / max(samples, 1), correct / max(samples, 1), round(samples), tuple(layers))
