"""The LIF with recurrent weights, defined: a plain loop over time that autograd differentiates.

    d[t] = x[t] + W s[t-1]                         s[-1] = s0 (zero at rest)
    u[t] = beta·v[t-1] + d[t]                      then spike and reset as in spikekit.ops.lif.reference

The order of the sum in W s is left open: it is that of a matrix product here, and of the neurons elsewhere. Where sums
are exact, as with weights on a grid, all paths fire the same spikes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.lif.reference import LIFRule, lif_reference, state_dtype


def recurrent_reference(
    x: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: LIFRule,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, N]. v0, s0: [B, N] or None. weight: [N, N], from the second axis to the first. beta, threshold,
    quantum: broadcastable to [N]. All but x in `state_dtype`.
    Returns spikes [T, B, N] in x's dtype, membranes u [T, B, N] and the last v [B, N] in `state_dtype`.
    """
    dtype = state_dtype(x.dtype)
    s = torch.zeros_like(x[0], dtype=dtype) if s0 is None else s0
    v = torch.zeros_like(s) if v0 is None else v0
    spikes, membranes = [], []
    for drive in x.unbind(0):
        # A membrane takes no part in autocast, nor does what it adds up.
        with torch.autocast(x.device.type, enabled=False):
            feedback = s @ weight.t()
        fired, u, v = lif_reference((drive.to(dtype) + feedback)[None], v, beta, threshold, quantum, rule)
        s = fired[0]
        spikes.append(s.to(x.dtype))
        membranes.append(u[0])
    return torch.stack(spikes), torch.stack(membranes), v
