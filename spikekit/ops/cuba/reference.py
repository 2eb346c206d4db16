"""The LIF with a synaptic current, defined: a leaky integrator whose output is the drive of an LIF.

    i[t] = alpha·i[t-1] + x[t]                     i[-1] = i0 (zero at rest)
    u[t] = beta·v[t-1] + i[t]                      then spike and reset as in spikekit.ops.lif.reference

A drive acts on the membrane in the step that it arrives in.
"""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.li.reference import li_reference
from spikekit.ops.lif.reference import LIFRule, lif_reference


def cuba_reference(
    x: Tensor,
    i0: Tensor | None,
    v0: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: LIFRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, ...]. i0, v0: [B, ...] or None. alpha, beta, threshold, quantum: broadcastable to [B, ...].
    Returns spikes [T, B, ...] in x's dtype; currents i and membranes u [T, B, ...] and the last v [B, ...] in
    `state_dtype`.
    """
    currents = li_reference(x, i0, alpha)
    spikes, membranes, v = lif_reference(currents, v0, beta, threshold, quantum, rule)
    return spikes.to(x.dtype), currents, membranes, v
