"""Max-pooling of images by windows that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.ops.paths import forced_path, functorch_active, watched
from spikekit.ops.pool import cpu
from spikekit.ops.pool.operator import max_pool2d_kernel
from spikekit.ops.pool.reference import max_pool2d_reference

__all__ = ["max_pool2d", "max_pool2d_reference"]

# A place in a window is a byte.
_LARGEST = 255


def max_pool2d(x: Tensor, window: Sequence[int]) -> Tensor:
    """`torch.nn.functional.max_pool2d(x, window)`: x [N, C, H, W] -> [N, C, H // h, W // w], the same numbers.

    On the CPU, float32 and float64 go through kernels that are some times as fast and keep less for the backward pass.
    All else - other devices and dtypes, torch.func, subclasses of Tensor, images without a window in them - is torch's.
    """
    if not _serves(x, window):
        return max_pool2d_reference(x, window)
    x = x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()
    return max_pool2d_kernel(x, list(window))[0]


def _serves(x: Tensor, window: Sequence[int]) -> bool:
    return (
        forced_path() == "auto"
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.layout == torch.strided
        and x.ndim == 4
        and x.numel() > 0
        and 0 < window[0] <= x.shape[2]
        and 0 < window[1] <= x.shape[3]
        and window[0] * window[1] <= _LARGEST
        and not functorch_active()
        and not watched()
        and _supports(x.dtype)
    )


def _supports(dtype: torch.dtype) -> bool:
    return cpu.supports(dtype)


# What torch.compiler.assume_constant_result does, which would import all of torch._dynamo here and now: a second.
_supports._dynamo_marked_constant = True  # type: ignore[attr-defined]
