"""Readout losses: from a readout's output over time [T, B, C] to one number, and to one class a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spikekit.errors import InputError

READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda output: output.mean(0),
    "sum": lambda output: output.sum(0),
    "max": lambda output: output.amax(0),
    "last": lambda output: output[-1],
}


def pool_time(output: Tensor, readout: str = "mean") -> Tensor:
    """One score a class: the "mean", "sum", "max" or "last" over time of output [T, B, C]; returns [B, C]."""
    if readout not in READOUTS:
        raise InputError(f"pool_time: unknown readout {readout!r}; choose one of {sorted(READOUTS)}")
    if output.ndim != 3:
        raise InputError(
            f"pool_time: the network's output must be [T, B, C], got shape {tuple(output.shape)}; "
            "end the network with nn.Flatten() and a readout such as nn.Linear and sk.LI"
        )
    return READOUTS[readout](output)


def decode(output: Tensor, readout: str = "mean") -> Tensor:
    """The class with the highest pooled score: output [T, B, C] to classes [B], int64."""
    return pool_time(output, readout).argmax(-1)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the scores pooled over time.

    Called with output [T, B, C] and target [B] (int64 in [0, C)), returns a scalar. readout: see `pool_time`;
    "mean" suits membrane readouts, "sum" spike counts. label_smoothing: in [0, 1), as in torch.
    """

    readout: str = "mean"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.readout not in READOUTS:
            raise InputError(f"CrossEntropy: unknown readout {self.readout!r}; choose one of {sorted(READOUTS)}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"CrossEntropy: label_smoothing must be in [0, 1), got {self.label_smoothing}")

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        scores = pool_time(output, self.readout)
        return functional.cross_entropy(scores, target, label_smoothing=self.label_smoothing)

    def decode(self, output: Tensor) -> Tensor:
        """Classes [B] of output [T, B, C]."""
        return decode(output, self.readout)


@dataclass(frozen=True)
class TET:
    """Temporal efficient training: the cross-entropy of every time step, averaged over time.

    (1 - lamb)·mean_t CE(output[t], target) + lamb·mean (output - level)². Called like `CrossEntropy`. lamb:
    weight of the pull of all outputs towards `level`, in [0, 1]. Source: Deng et al., "Temporal Efficient
    Training of Spiking Neural Network via Gradient Re-weighting", ICLR 2022.
    """

    lamb: float = 0.0
    level: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.lamb <= 1:
            raise InputError(f"TET: lamb must be in [0, 1], got {self.lamb}")

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        scores = pool_time(output, "mean")
        steps = output.shape[0]
        each = functional.cross_entropy(output.flatten(0, 1), target.repeat(steps))
        if self.lamb == 0:
            return each
        pull = (output - torch.as_tensor(self.level, dtype=scores.dtype, device=scores.device)).square().mean()
        return (1 - self.lamb) * each + self.lamb * pull

    def decode(self, output: Tensor) -> Tensor:
        """Classes [B] of output [T, B, C]: the mean over time decides."""
        return decode(output, "mean")
