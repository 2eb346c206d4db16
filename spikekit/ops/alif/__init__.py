"""The LIF with an adaptive threshold: picks the path that computes `reference.alif_reference` fastest for this call."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.alif.integer import alif_integer
from spikekit.ops.alif.operator import alif_sequence
from spikekit.ops.alif.reference import alif_reference
from spikekit.ops.gradients import wanted
from spikekit.ops.lif import LIFRule
from spikekit.ops.paths import forced_path, functorch_active

__all__ = ["alif", "alif_integer", "alif_reference"]


def alif(
    x: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rho: Tensor,
    step: Tensor,
    rule: LIFRule,
    *,
    keep_traces: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Spikes, membranes and adaptations (None unless kept or needed by the path), last v and last a of a drive.

    Arguments as in `alif_reference`, whose numbers every path returns.
    """
    inputs = (x, v0, a0, beta, threshold, quantum, rho, step)
    if forced_path() == "reference" or functorch_active():
        return alif_reference(*inputs, rule)
    keep = keep_traces or wanted(*inputs)
    choices = (rule.reset, rule.inclusive, rule.detach_reset, *rule.surrogate.encode())
    spikes, membranes, adaptations, v, a = alif_sequence(*inputs, *choices, keep)
    return (spikes, membranes, adaptations, v, a) if keep else (spikes, None, None, v, a)
