"""A linear layer and the LIF layer behind it as one operator, for inference: the drive between them is not stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif.operator import lif_inference
from spikekit.ops.linear import cpu as matrix
from spikekit.ops.linear import linear_events, serves
from spikekit.ops.linear.choice import events_pay
from spikekit.ops.linear_lif import cpu
from spikekit.ops.operators import fake, not_differentiable, operator

__all__ = ["linear_lif", "pays"]


def pays(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether `linear_lif` is to be called: nobody wants a gradient, and the product may gain from events."""
    return not torch.is_grad_enabled() and x.ndim == 3 and serves(x, weight, bias) and _supports(x.dtype)


def _supports(dtype: torch.dtype) -> bool:
    return cpu.supports(dtype)


# See spikekit.ops.linear.
_supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


@operator("linear_lif")
def linear_lif(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes [T, B, N] and last v [B, N] of x [T, B, K]: those of `linear` and `lif`, bit for bit.

    In one pass where events pay, else one after the other. weight: [N, K]. bias: [N]. The rest as in `lif_reference`.
    """
    x = x.contiguous()
    rows = x.flatten(0, 1)
    bias = None if bias is None else bias.contiguous()
    if events_pay(matrix.density(rows), len(rows), x.shape[2], len(weight)):
        found = cpu.forward(x, weight, bias, v0, (beta, threshold, quantum), reset, inclusive)
        if found is not None:
            return found
    drive = linear_events(rows, weight, bias).unflatten(0, x.shape[:2])
    return lif_inference(drive, v0, beta, threshold, quantum, reset, inclusive)


@fake("linear_lif")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, v0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    neurons: Sequence[int] = (x.shape[1], weight.shape[0])
    return x.new_empty((x.shape[0], *neurons)), x.new_empty(neurons)


not_differentiable("linear_lif")
