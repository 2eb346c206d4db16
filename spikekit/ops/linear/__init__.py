"""The linear operation: event by event where its input is sparse enough, else as torch computes it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spikekit.ops.linear import cpu
from spikekit.ops.linear.choice import events_pay, large
from spikekit.ops.linear.events import linear_events, outer
from spikekit.ops.linear.reference import linear_reference
from spikekit.ops.paths import forced_path, functorch_active, watched

__all__ = ["linear", "linear_events", "linear_reference", "serves", "weight_gradient"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: x [..., K], weight [N, K], bias [N] -> [..., N].

    On the CPU, in float32 and float64, sums that leave out the zeros of x where x is sparse enough to make them faster.
    They differ from torch's by rounding, and are the same for a sample whatever else is in the batch. A NaN or Inf in
    any operand comes out as with torch. All else - other devices and dtypes, autocast, torch.func, subclasses of
    Tensor, shapes that do not fit - is torch's.
    """
    if not serves(x, weight, bias):
        return linear_reference(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    # The operator looks once more. A compiler, which cannot see the numbers, leaves all to it.
    if not torch.compiler.is_compiling() and not events_pay(cpu.density(rows), len(rows), x.shape[-1], len(weight)):
        return linear_reference(x, weight, bias)
    return linear_events(rows, weight, bias).unflatten(0, x.shape[:-1])


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """gradᵀ·x: x [R, K], grad [R, N] -> [N, K], with no gradient of its own; zeros of x are left out as by `linear`."""
    return outer(x, grad) if serves(x.t(), grad.t(), None) else grad.t() @ x


def serves(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels know these operands, and the product is so large that events may make it faster."""
    operands = (x, weight) if bias is None else (x, weight, bias)
    # First what most small calls fail.
    return (
        large(x.numel() * len(weight), torch.is_grad_enabled() and any(a.requires_grad for a in operands))
        and forced_path() == "auto"
        and all(type(a) in (Tensor, nn.Parameter) and a.device.type == "cpu" for a in operands)
        and all(a.dtype == x.dtype and a.layout == torch.strided for a in operands)
        and x.ndim > 1
        and weight.ndim == 2
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and not torch.is_autocast_enabled("cpu")
        and not functorch_active()
        and not watched()
        and _supports(x.dtype)
    )


def _supports(dtype: torch.dtype) -> bool:
    return cpu.supports(dtype)


# What torch.compiler.assume_constant_result does, which would import all of torch._dynamo here and now: a second.
_supports._dynamo_marked_constant = True  # type: ignore[attr-defined]
