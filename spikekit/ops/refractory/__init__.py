"""The LIF with a refractory period: picks the path that computes its reference fastest for this call."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.gradients import wanted
from spikekit.ops.lif import LIFRule
from spikekit.ops.paths import forced_path, functorch_active
from spikekit.ops.refractory.integer import refractory_integer
from spikekit.ops.refractory.operator import refractory_sequence
from spikekit.ops.refractory.reference import refractory_reference

__all__ = ["refractory", "refractory_integer", "refractory_reference"]


def refractory(
    x: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    period: int,
    rule: LIFRule,
    *,
    keep_traces: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Spikes, membranes and countdowns (None unless kept or needed by the path), last v and last r of a drive.

    Arguments as in `refractory_reference`, whose numbers every path returns.
    """
    inputs = (x, v0, r0, beta, threshold, quantum)
    if forced_path() == "reference" or functorch_active():
        return refractory_reference(*inputs, period, rule)
    keep = keep_traces or wanted(*inputs)
    choices = (rule.reset, rule.inclusive, rule.detach_reset, *rule.surrogate.encode())
    spikes, membranes, countdowns, v, r = refractory_sequence(*inputs, *choices, period, keep)
    return (spikes, membranes, countdowns, v, r) if keep else (spikes, None, None, v, r)
