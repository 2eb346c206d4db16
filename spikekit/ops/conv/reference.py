"""The convolution of images, defined: as torch computes it, in one group and padded with zeros."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def conv2d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Y [N, O, H', W'] of x [N, C, H, W], weight [O, C, h, w] and bias [O] or None."""
    return functional.conv2d(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation))
