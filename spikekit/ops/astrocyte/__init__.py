"""The LIF modulated by astrocytes: picks the path that computes `reference.astrocyte_reference` fastest."""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.astrocyte.operator import astrocyte_sequence
from spikekit.ops.astrocyte.reference import ACTS_ON, AstrocyteRule, astrocyte_reference, modulation
from spikekit.ops.lif import LIFRule
from spikekit.ops.paths import forced_path, functorch_active

__all__ = ["ACTS_ON", "AstrocyteRule", "astrocyte_lif", "astrocyte_reference", "modulation"]


def astrocyte_lif(
    x: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    sensed: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    decay: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: Tensor,
    rule: LIFRule,
    astrocyte: AstrocyteRule,
    *,
    keep_traces: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Spikes, membranes and calcium (None unless kept or needed by the path), last v and last c of a drive.

    Arguments as in `astrocyte_reference`, whose numbers every path returns.
    """
    inputs = (x, v0, c0, sensed, beta, threshold, quantum, decay, weight, bias, strength)
    if forced_path() == "reference" or functorch_active():
        return astrocyte_reference(*inputs, rule, astrocyte)
    keep = keep_traces or (torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in inputs))
    choices = (rule.reset, rule.inclusive, rule.detach_reset, *rule.surrogate.encode())
    spikes, membranes, calcium, _, v, c = astrocyte_sequence(*inputs, *choices, astrocyte.acts_on, astrocyte.own, keep)
    return (spikes, membranes, calcium, v, c) if keep else (spikes, None, None, v, c)
