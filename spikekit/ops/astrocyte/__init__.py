"""The LIF modulated by astrocytes: picks the path that computes `reference.astrocyte_reference` fastest."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.astrocyte.reference import ACTS_ON, AstrocyteRule, astrocyte_reference, modulation
from spikekit.ops.lif import LIFRule

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
    return astrocyte_reference(*inputs, rule, astrocyte)
