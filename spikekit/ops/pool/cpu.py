"""Max-pooling by the C kernels of pool.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.pool.reference import max_pool2d_reference


class _Call(ctypes.Structure):
    """`pool_call` of pool.c."""

    _fields_: ClassVar[Any] = [
        *((name, ctypes.c_int64) for name in ("planes", "height", "width", "inner", "high", "wide")),
        ("threads", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("x", "grad", "y", "grad_x", "place")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernels serve images of `dtype`; compiles them at the first call."""
    return KERNELS.trusted(dtype)


def forward(x: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest of each window and its place there, uint8, both [N, C, H', W'] in the order of x.

    x [N, C, H, W]: contiguous or channels last. window: h and w, at most 255 numbers.
    """
    shape = (*x.shape[:2], x.shape[2] // window[0], x.shape[3] // window[1])
    y, place = (_empty(shape, dtype, _last(x)) for dtype in (x.dtype, torch.uint8))
    call = _call(x.shape, window, _last(x))
    native.point(call, x=x, y=y, place=place)
    KERNELS.library(x.dtype).pool_forward(ctypes.byref(call))
    return y, place


def backward(grad: Tensor, place: Tensor, size: Sequence[int], window: Sequence[int]) -> Tensor:
    """The gradient of x, [N, C, *size], in the order of `place`."""
    last = _last(place)
    grad = grad.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    shape = (*place.shape[:2], *size)
    grad_x = _empty(shape, grad.dtype, last)
    call = _call(shape, window, last)
    native.point(call, grad=grad, place=place, grad_x=grad_x)
    KERNELS.library(grad.dtype).pool_backward(ctypes.byref(call))
    return grad_x


def _last(x: Tensor) -> bool:
    return not x.is_contiguous()


def _empty(shape: Sequence[int], dtype: torch.dtype, last: bool) -> Tensor:
    images, channels, height, width = shape
    if last:
        return native.empty((images, height, width, channels), dtype).permute(0, 3, 1, 2)
    return native.empty((images, channels, height, width), dtype)


def _call(shape: Sequence[int], window: Sequence[int], last: bool) -> _Call:
    images, channels, height, width = shape
    planes, inner = (images, channels) if last else (images * channels, 1)
    threads = native.threads_for(images * channels * height * width)
    return _Call(planes, height, width, inner, *window, threads)


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    # Small integers: many are equal, and the first must be found.
    image = torch.randint(-2, 3, (2, 3, 9, 11), generator=generator).to(dtype)
    image[0, 0, 0, 0] = image[0, 0, 1, 1] = image[1, 1, 4, 4] = torch.nan
    for window in ((2, 2), (3, 2)):
        for x in (image, image.contiguous(memory_format=torch.channels_last)):
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                expected = max_pool2d_reference(leaf, window)
            grad = torch.randn(expected.shape, generator=generator, dtype=dtype)
            (wanted,) = torch.autograd.grad(expected, leaf, grad)
            y, place = forward(x, window)
            if not torch.equal(y.nan_to_num(9), expected.detach().nan_to_num(9)):
                raise ArithmeticError(f"another maximum than the reference, window {window}")
            if not torch.equal(backward(grad, place, x.shape[2:], window), wanted):
                raise ArithmeticError(f"another gradient than the reference, window {window}")


KERNELS = native.Kernels(Path(__file__).with_name("pool.c"), _self_test)
