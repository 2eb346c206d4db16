"""A batch of a continual learner, and its loss: cross-entropy over the classes that it may choose from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikekit.errors import InputError
from spikekit.train.loss import CrossEntropy

_NEVER = -1e9


@dataclass(frozen=True)
class Batch:
    """Inputs x [T, B, ...], labels y [B], and `allowed` bool [B, C]: classes that a sample is told from; None: all."""

    x: Tensor
    y: Tensor
    allowed: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim < 3 or self.y.shape != self.x.shape[1:2] or self.y.dtype != torch.int64:
            raise InputError(
                f"Batch: x must be [T, B, ...] and y int64 [B], got {list(self.x.shape)} and {self.y.dtype} "
                f"{list(self.y.shape)}"
            )

    def __len__(self) -> int:
        """Return the number of samples B."""
        return len(self.y)

    def loss(self, output: Tensor) -> Tensor:
        """Cross-entropy of the mean over time of output [T', B, C]; every label must be one that is allowed."""
        scores = self.masked(output)
        known = (self.y >= 0) & (self.y < output.shape[-1])
        if self.allowed is not None:
            known &= self.allowed.gather(1, self.y.clamp(0, output.shape[-1] - 1)[:, None])[:, 0]
        if not bool(known.all()):
            raise InputError(
                f"Batch: a sample is of class {int(self.y[~known][0])}, which is none of those that it is told from; "
                f"the network has {output.shape[-1]} outputs"
            )
        return CrossEntropy()(scores, self.y)

    def correct(self, output: Tensor) -> int:
        """How many of the samples output [T', B, C] has right."""
        return int((CrossEntropy().decode(self.masked(output)) == self.y).sum())

    def masked(self, output: Tensor) -> Tensor:
        """Output [T', B, C] with the classes that are not allowed out of reach."""
        if self.allowed is None:
            return output
        if self.allowed.shape != output.shape[1:]:
            raise InputError(
                f"Batch: allowed must be bool [B, C] = {list(output.shape[1:])}, got {list(self.allowed.shape)}"
            )
        return output.masked_fill(~self.allowed, _NEVER)

    def joined(self, other: Batch) -> Batch:
        """One batch and another, one after the other; both say what is allowed, or neither."""
        if (self.allowed is None) != (other.allowed is None):
            raise InputError("Batch: one of the two says which classes are allowed, the other does not")
        allowed = None if self.allowed is None or other.allowed is None else torch.cat([self.allowed, other.allowed])
        return replace(self, x=torch.cat([self.x, other.x], 1), y=torch.cat([self.y, other.y]), allowed=allowed)

    def taken(self, indices: Tensor) -> Batch:
        """The samples `indices`."""
        allowed = None if self.allowed is None else self.allowed[indices]
        return Batch(self.x[:, indices], self.y[indices], allowed)
