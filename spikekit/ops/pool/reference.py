"""Max-pooling as torch has it, which defines what the kernels give."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def max_pool2d_reference(x: Tensor, window: Sequence[int]) -> Tensor:
    """X [N, C, H, W] -> [N, C, H // h, W // w]: the largest of each window [h, w], which do not overlap."""
    y: Tensor = F.max_pool2d(x, list(window))
    return y
