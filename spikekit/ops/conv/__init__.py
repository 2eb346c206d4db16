"""The convolution of images: event by event where they are sparse enough, else as torch computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikekit.ops.conv import cpu
from spikekit.ops.conv.choice import events_pay, large, multiplications
from spikekit.ops.conv.events import conv2d_events
from spikekit.ops.conv.reference import conv2d_reference
from spikekit.ops.paths import forced_path, functorch_active, watched

__all__ = ["conv2d", "conv2d_events", "conv2d_reference", "serves"]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """`torch.nn.functional.conv2d` in one group: x [N, C, H, W], weight [O, C, h, w], bias [O] -> [N, O, H', W'].

    On the CPU, float32 and float64 are summed event by event where x is sparse enough to make that faster; the output
    then lies channels last in memory. A NaN or Inf in any operand comes out as with torch. All else - other devices and
    dtypes, autocast, torch.func, subclasses of Tensor, shapes that do not fit - is torch's.
    """
    steps = (*stride, *padding, *dilation)
    if not serves(x, weight, bias, steps):
        return conv2d_reference(x, weight, bias, stride, padding, dilation)
    images = cpu.dense(x)
    # The operator looks once more. A compiler, which cannot see the numbers, leaves all to it.
    if not torch.compiler.is_compiling():
        # A dense gradient of the weight, of an output that lies channels last, would take back what was gained.
        learns = torch.is_grad_enabled() and weight.requires_grad
        density = cpu.density(images)
        if not all(events_pay(density, x.shape, weight.shape, steps, back=back) for back in (False, learns)):
            return conv2d_reference(x, weight, bias, stride, padding, dilation)
    return conv2d_events(images, weight, bias, steps)


def serves(x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> bool:
    """Whether the kernels know these operands, and the convolution is so large that events may make it faster.

    steps: stride, padding and dilation, each in y and x.
    """
    if not (_knows(x, weight, bias) and _fits(x, weight, bias, steps)):
        return False
    gradient = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in (x, weight, bias))
    return large(multiplications(x.shape, weight.shape, steps), gradient)


def _knows(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    operands = (x, weight) if bias is None else (x, weight, bias)
    return (
        forced_path() == "auto"
        and all(type(a) in (Tensor, nn.Parameter) and a.device.type == "cpu" for a in operands)
        and all(a.dtype == x.dtype and a.layout == torch.strided for a in operands)
        and not torch.is_autocast_enabled("cpu")
        and not functorch_active()
        and not watched()
        and _supports(x.dtype)
    )


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> bool:
    return (
        x.ndim == weight.ndim == 4
        and x.numel() * weight.numel() > 0
        and x.shape[1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and min(steps[2:4]) >= 0 < min(*steps[:2], *steps[4:])
        and all(cpu.out_size(x.shape[a + 2], weight.shape[a + 2], *steps[a::2]) > 0 for a in (0, 1))
        # Places in an image and in the weight are 32-bit numbers in the kernels.
        and max(x[0].numel(), weight.numel()) < 1 << 24
    )


def _supports(dtype: torch.dtype) -> bool:
    return cpu.supports(dtype)


# What torch.compiler.assume_constant_result does, which would import all of torch._dynamo here and now: a second.
_supports._dynamo_marked_constant = True  # type: ignore[attr-defined]
