"""Convolutions of images that are mostly zeros, by the C kernels of conv.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.conv.reference import conv2d_reference
from spikekit.ops.linear import cpu as linear

_SIZES = ("images", "channels", "height", "width", "outer", "high", "wide", "out_height", "out_width")
_STEPS = ("stride_y", "stride_x", "padding_y", "padding_x", "dilation_y", "dilation_x")
_STRIDES = ("out_image", "out_channel", "out_y", "out_x")


class Call(ctypes.Structure):
    """`conv_call` of conv.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in (*_SIZES, *_STEPS, *_STRIDES)),
        *((name, ctypes.c_int32) for name in ("threads", "channels_last")),
        *((name, ctypes.c_void_p) for name in ("x", "weights", "bias", "out", "grad", "sums")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether these kernels serve images of `dtype`; compiles them at the first call."""
    return linear.supports(dtype) and KERNELS.trusted(dtype)


def density(x: Tensor) -> float:
    """The part of x [N, C, H, W], dense, that is not zero, judged by images spread over all of them."""
    return linear.density((x if x.is_contiguous() else x.permute(0, 2, 3, 1)).flatten(1))


def dense(x: Tensor) -> Tensor:
    """X itself where it is contiguous or channels last, else a contiguous copy."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def out_size(size: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    """The length of an axis of the output."""
    return (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> Tensor | None:
    """Y [N, O, H', W'], channels last; None when the weight holds a NaN or an Inf.

    x: as `dense` gives it. steps: stride, padding and dilation, each in y and x.
    """
    made = convolution(x, weight, bias, steps)
    if made is None:
        return None
    call, kept = made
    out = native.empty((call.images, call.out_height, call.out_width, call.outer), x.dtype)
    call.out = out.data_ptr()
    if KERNELS.library(x.dtype).conv_forward(ctypes.byref(call)):
        raise MemoryError("conv_forward: no memory for an image")
    # Until here the kernel may read them.
    del kept
    return out.permute(0, 3, 1, 2)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]
) -> tuple[Call, list[Tensor | None]] | None:
    """A call that lacks but its output, and what must live as long as it; None and arguments as for `forward`."""
    if not bool(torch.isfinite(weight).all()):
        return None
    call = _call(x, weight, steps)
    weights = torch.zeros(weight[0].numel(), _padded(call.outer, x.dtype), dtype=x.dtype)
    weights[:, : call.outer] = weight.flatten(1).t()
    bias = None if bias is None else bias.contiguous()
    native.point(call, weights=weights, bias=bias)
    return call, [weights, bias]


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, steps: Sequence[int]) -> Tensor | None:
    """The gradient of the weight; None when grad holds a NaN or an Inf. x, steps: as for `forward`."""
    call = _call(x, weight, steps)
    padded, library = _padded(call.outer, x.dtype), KERNELS.library(x.dtype)
    sums = native.empty((library.conv_parts(), weight[0].numel(), padded), x.dtype)
    call.grad, call.sums = grad.data_ptr(), sums.data_ptr()
    call.out_image, call.out_channel, call.out_y, call.out_x = grad.stride()
    failed = library.conv_weight_gradient(ctypes.byref(call))
    if failed & 1:
        raise MemoryError("conv_weight_gradient: no memory for an image")
    return None if failed else sums[0, :, : call.outer].t().reshape(weight.shape)


def _padded(outer: int, dtype: torch.dtype) -> int:
    lanes = KERNELS.library(dtype).conv_lanes()
    return -(-outer // lanes) * lanes


def _call(x: Tensor, weight: Tensor, steps: Sequence[int]) -> Call:
    call = Call(x=x.data_ptr(), channels_last=not x.is_contiguous())
    call.images, call.channels, call.height, call.width = x.shape
    call.outer, _, call.high, call.wide = weight.shape
    for name, step in zip(_STEPS, steps, strict=True):
        setattr(call, name, step)
    call.out_height, call.out_width = (
        out_size(x.shape[axis + 2], weight.shape[axis + 2], *steps[axis::2]) for axis in (0, 1)
    )
    call.threads = native.threads_for(x.numel() + call.images * call.out_height * call.out_width * call.outer)
    return call


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    for steps in ((1, 1, 0, 0, 1, 1), (2, 3, 1, 2, 2, 1)):
        x, weight, bias = normal(19, 3, 9, 8), normal(20, 3, 3, 2), normal(20)
        x *= torch.rand(x.shape, generator=generator) < 0.2
        weight.requires_grad_()
        with torch.enable_grad():
            expected = conv2d_reference(x, weight, bias, steps[:2], steps[2:4], steps[4:])
            grad = normal(*expected.shape)
            (expected_gradient,) = torch.autograd.grad(expected, weight, grad)
        for image in (x, x.contiguous(memory_format=torch.channels_last)):
            pairs = {
                "output": (forward(image, weight.detach(), bias, steps), expected.detach()),
                "gradient of the weight": (weight_gradient(grad, image, weight.detach(), steps), expected_gradient),
            }
            for name, (found, wanted) in pairs.items():
                if found is None or not torch.allclose(found, wanted, rtol=1e-4, atol=1e-4):
                    raise ArithmeticError(f"another {name} than the reference")


KERNELS = native.Kernels(Path(__file__).with_name("conv.c"), _self_test)
