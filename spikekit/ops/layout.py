"""How tensors of time lie in memory. Kernels see [T, M]: time outermost, the M values of a step in any dense order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from spikekit import native

Given = TypeVar("Given", Tensor, Tensor | None)


def time_outermost(x: Tensor) -> bool:
    """Whether the steps of x [T, ...] follow one another in memory, each of them dense in some order of its axes."""
    if x.is_contiguous():
        return True
    if len(x) > 1 and x.stride(0) != x[0].numel():
        return False
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride()[1:], x.shape[1:], strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def dense(x: Tensor) -> Tensor:
    """X with time outermost: x itself where it lies so, else a contiguous copy."""
    return x if time_outermost(x) else x.contiguous()


def arranged(value: Given, model: Tensor) -> Given:
    """`value` with the strides of `model`, which lies dense: itself where it has them, else a copy. None stays None."""
    if value is None or value.stride() == model.stride():
        return value
    return torch.empty_like(model, dtype=value.dtype).copy_(value)


def arranged_as_new(value: Tensor, x: Tensor) -> Tensor:
    """`value` with the strides that `torch.empty_like(x)` has, as the fake kernels promise them."""
    if value.stride() == x.stride():
        return value
    strides = torch.empty_like(x, device="meta").stride()
    if value.stride() == strides:
        return value
    return torch.empty_like(x, dtype=value.dtype).copy_(value)


def handed_out(x: Tensor, sequences: Sequence[Tensor], states: Sequence[Tensor]) -> list[Tensor]:
    """What a kernel wrote for the drive x, with the strides that fake kernels promise; what is empty stays so."""
    if sequences[0].stride() == x.stride():
        return [*sequences, *states]
    outputs = [arranged_as_new(value, x) if value.numel() else value for value in sequences]
    return outputs + [arranged_as_new(value, x[0]) for value in states]


def copied(value: Tensor | None, model: Tensor) -> Tensor:
    """The numbers of `value`, or zeros, in a new tensor of the shape, strides and dtype of `model`."""
    return torch.zeros_like(model) if value is None else torch.empty_like(model).copy_(value)


def parameters_of(drive: Tensor, *values: Tensor) -> list[Tensor]:
    """Parameters for a kernel: all single numbers, or all one value for each neuron, in the memory order of a step.

    drive: [T, ...], time outermost. values: broadcastable to a step.
    """
    if all(value.ndim == 0 for value in values):
        return list(values)
    step = drive[0]
    return [torch.empty_like(step, dtype=value.dtype).copy_(value) for value in values]


def uninitialised_like(model: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.empty_like`, on the CPU from memory that was used before."""
    if model.device.type == "cpu":
        return native.empty_like(model, dtype)
    return torch.empty_like(model, dtype=dtype)
