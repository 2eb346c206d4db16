"""The neuron of Loihi in fixed point: the C kernel on the CPU, else the loop that defines it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from spikekit.ops.integer import cpu
from spikekit.ops.integer.reference import STATE_MAX, STATE_SHIFT, WRAP, IntegerRule, integer_reference, wrapped
from spikekit.ops.paths import forced_path

__all__ = ["STATE_MAX", "STATE_SHIFT", "WRAP", "IntegerRule", "integer_lif", "integer_reference", "wrapped"]


def integer_lif(
    sums: Tensor,
    bias: Tensor,
    keep: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: IntegerRule,
    *,
    keep_current: Tensor | None = None,
    recurrent: Callable[[Tensor], Tensor] | None = None,
    membranes: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes and the last v of sums [T, B, ...]; arguments and results as in `integer_reference`.

    membranes: False leaves them out, and an empty tensor is in their place. It has no gradient.
    """
    values = (bias, keep, threshold, quantum)
    here = sums.device.type == "cpu" and forced_path() == "auto" and cpu.supports(sums.dtype)
    # What a step's spikes bring back is known after it alone.
    if here and recurrent is None:
        return cpu.forward(_by_sample(sums), *values, rule, membranes, keep_current)
    spikes, kept, last = integer_reference(sums, *values, rule, keep_current, recurrent)
    return spikes, kept if membranes else kept.new_empty(0), last


def _by_sample(sums: Tensor) -> Tensor:
    """Time and batch outermost and each sample dense, in any order of its axes; a copy where they are not."""
    size = sums[0, 0].numel()
    order = sorted(range(sums.ndim - 2), key=lambda axis: -sums.stride(axis + 2))
    dense = sums[0, 0].permute(order).is_contiguous()
    if dense and sums.stride()[:2] == (size * sums.shape[1], size):
        return sums
    return sums.contiguous()
