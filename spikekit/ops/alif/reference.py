"""The LIF with an adaptive threshold, defined: a plain loop over time that autograd differentiates.

    u[t] = beta·v[t-1] + x[t]                      v[-1] = v0 (zero at rest)
    θ[t] = threshold + step·a[t-1]                 a[-1] = a0 (zero at rest)
    s[t] = 1 if u[t] > θ[t] else 0                 (>= when inclusive)
    v[t]: soft u[t] - quantum·s[t], hard u[t]·(1 - s[t]), none u[t]
    a[t] = rho·a[t-1] + s[t]

The threshold that decides knows the spikes before this step alone. What soft reset subtracts is the quantum, which does
not move with the threshold. In the backward pass ds/du = -ds/dθ is the surrogate's derivative at u - θ; a detached
reset leaves the gradient through a in place. Source: Bellec et al. 2018, NeurIPS, arXiv 1803.09574, whose b is
(1 - rho)·a and whose beta is step / (1 - rho).
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.lif import reference as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype


def alif_reference(
    x: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rho: Tensor,
    step: Tensor,
    rule: LIFRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, ...]. v0, a0: [B, ...] or None. beta, threshold, quantum, rho, step: broadcastable to [B, ...].
    Returns spikes [T, B, ...] in x's dtype; membranes u and adaptations a [T, B, ...], the last v and the last a
    [B, ...] in `state_dtype`.
    """
    dtype = state_dtype(x.dtype)
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    a = torch.zeros_like(v) if a0 is None else a0
    spikes, membranes, adaptations = [], [], []
    for drive in x.unbind(0):
        u = beta * v + drive.to(dtype)
        s = lif.fire(u, threshold + step * a, rule)
        v = lif.after_reset(u, s, quantum, rule)
        a = rho * a + s
        spikes.append(s.to(x.dtype))
        membranes.append(u)
        adaptations.append(a)
    return torch.stack(spikes), torch.stack(membranes), torch.stack(adaptations), v, a
