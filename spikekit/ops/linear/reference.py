"""The linear layer, defined: y = x·Wᵀ + b, as torch computes it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Y [..., N] of x [..., K], weight [N, K] and bias [N] or None."""
    return functional.linear(x, weight, bias)
