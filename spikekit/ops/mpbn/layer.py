"""What an MPBN layer is beside its drive and its state: the arguments that its operators take one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """Parameters and choices, in the order of the operators.

    beta, threshold, quantum: broadcastable to the neurons [C, ...]. weight, bias: [C], or the shape of the neurons.
    mean, var: of the same shape, those that normalise in eval mode and that move in training; in the backward pass of
    training those of every step, [T, ...]. surrogate, numbers: what `Surrogate.encode` gives. sync: statistics over all
    processes.
    """

    beta: Tensor
    threshold: Tensor
    quantum: Tensor
    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    training: bool
    momentum: float
    eps: float
    reset: str
    inclusive: bool
    detach_reset: bool
    surrogate: str
    numbers: Sequence[float]
    sync: bool

    @classmethod
    def of(cls, *arguments: Any) -> Layer:
        """From the run of arguments that the operators have in common."""
        return cls(*arguments)

    @property
    def neuron(self) -> tuple[Tensor, Tensor, Tensor]:
        """The parameters that may have a value for each neuron: beta, threshold and quantum."""
        return self.beta, self.threshold, self.quantum

    @property
    def norm(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What normalises: weight, bias, mean and var."""
        return self.weight, self.bias, self.mean, self.var
