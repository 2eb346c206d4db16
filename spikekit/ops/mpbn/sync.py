"""Statistics over the batches of all processes, however many samples each has: one collective a step and direction.

Each process gives its count, mean and sum of squares around that mean, as `nn.SyncBatchNorm` does: together they make
the moments of the whole without the cancellation of E[u²] - E[u]². All see the same numbers in the same order, and so
compute the same statistics to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from spikekit.errors import InputError


def processes() -> int:
    """How many there are to share statistics with, this one among them; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def moments(u: Tensor, axes: list[int], shape: torch.Size, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of a step u [B, ...] over `axes`, of `shape`, and the count of values behind each.

    steps: T, which must be the same everywhere. Raises InputError where it is not, on the CPU; on a GPU the look would
    wait for the device.
    """
    values = u.double()
    own_mean = values.mean(axes, keepdim=True)
    squares = (values - own_mean).square_().sum(axes)
    own = torch.cat((own_mean.new_tensor([u.numel() // shape.numel(), steps]), own_mean.flatten(), squares.flatten()))
    every = own.new_empty(processes(), len(own))
    dist.all_gather(list(every.unbind(0)), own)
    if not u.is_cuda and len(lengths := every[:, 1].unique()) > 1:
        raise InputError(
            f"MPBN with sync=True: the processes run sequences of different lengths, T = {lengths.int().tolist()}. "
            "Give all of them the same number of steps, or use sync=False"
        )
    counts = every[:, :1]
    means, squares = every[:, 2:].chunk(2, dim=1)
    count = counts.sum()
    mean = ((counts * means).sum(0) / count).to(u.dtype)
    # Around the mean as it was rounded: the variance of the reference.
    var = ((squares + counts * (means - mean).square()).sum(0) / count).to(u.dtype)
    return mean.view(shape), var.view(shape), count


def total(count: int, *sums: Tensor) -> tuple[Tensor, ...]:
    """The count and the sums, float64, over all processes."""
    own = torch.cat((sums[0].new_tensor([count]), *(value.flatten() for value in sums)))
    dist.all_reduce(own)
    return own[0], *(part.view_as(value) for part, value in zip(own[1:].chunk(len(sums)), sums, strict=True))


class _Sum(torch.autograd.Function):
    """The sum over all processes of what each has: a change of one's own part changes every other's result."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return total(0, own)[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return total(0, grad)[1]


def differentiable_sum(own: Tensor) -> Tensor:
    """The sum of a float64 tensor over all processes, for the reference: its gradient is such a sum too."""
    summed: Tensor = _Sum.apply(own)
    return summed
