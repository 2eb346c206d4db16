"""The recurrent LIF: picks the path that computes `reference.recurrent_reference` fastest for this call."""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.gradients import wanted
from spikekit.ops.lif import LIFRule
from spikekit.ops.paths import forced_path, functorch_active
from spikekit.ops.recurrent import cpu
from spikekit.ops.recurrent.reference import recurrent_reference
from spikekit.ops.recurrent.sequence import recurrent_sequence

__all__ = ["recurrent", "recurrent_reference"]


def _compiled(device: str, dtype: torch.dtype, surrogate: str) -> bool:
    return device == "cpu" and cpu.supports(dtype, surrogate)


# See spikekit.ops.lif.triton_operator.
_compiled._dynamo_marked_constant = True  # type: ignore[attr-defined]


def recurrent(
    x: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: LIFRule,
    *,
    keep_membranes: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes, membranes (None unless kept or needed by the path) and last v of a drive [T, B, N].

    Arguments as in `recurrent_reference`, whose numbers every path returns where sums are exact.
    """
    path = forced_path()
    if path == "reference" or functorch_active():
        return recurrent_reference(x, v0, s0, weight, beta, threshold, quantum, rule)
    inputs = (x, v0, s0, weight, beta, threshold, quantum)
    keep = keep_membranes or wanted(*inputs)
    surrogate, numbers = rule.surrogate.encode()
    compiled = path == "auto" and _compiled(x.device.type, x.dtype, surrogate)
    spikes, membranes, v = recurrent_sequence(
        *inputs,  # type: ignore[arg-type]
        rule.reset,
        rule.inclusive,
        rule.detach_reset,
        surrogate,
        numbers,
        compiled,
        keep,
    )
    return spikes, membranes if keep else None, v
