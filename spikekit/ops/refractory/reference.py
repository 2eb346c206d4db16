"""The LIF with a refractory period, defined: a plain loop over time that autograd differentiates.

    r[t-1] = 0:   u[t] = beta·v[t-1] + x[t]        then spike and reset as in spikekit.ops.lif.reference
    r[t-1] > 0:   u[t] = v[t] = v[t-1], s[t] = 0   the membrane is held, the drive is lost
    r[t] = period if s[t] else max(r[t-1] - 1, 0)  r[-1] = r0 (zero at rest)

r counts the steps that are left. In the backward pass a held step hands the gradient of v on and gives x none; no
gradient goes through r. Source: lava-nc 0.10.0, lava.proc.lif.models, LIFRefractory, which resets hard; there it is the
end of the period that is kept, in steps since the start.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.lif import reference as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype


def refractory_reference(
    x: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    period: int,
    rule: LIFRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, ...]. v0, r0: [B, ...] or None. beta, threshold, quantum: broadcastable to [B, ...]. period: >= 0.
    Returns spikes [T, B, ...] in x's dtype; membranes u and countdowns r [T, B, ...], the last v and the last r
    [B, ...] in `state_dtype`.
    """
    dtype = state_dtype(x.dtype)
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    r = torch.zeros_like(x[0], dtype=dtype) if r0 is None else r0.detach()
    spikes, membranes, countdowns = [], [], []
    for drive in x.unbind(0):
        live = r == 0
        u = torch.where(live, beta * v + drive.to(dtype), v)
        s = lif.fire(u, threshold, rule) * live
        v = lif.after_reset(u, s, quantum, rule)
        r = torch.where(s.detach() > 0, float(period), (r - 1).clamp(min=0))
        spikes.append(s.to(x.dtype))
        membranes.append(u)
        countdowns.append(r)
    return torch.stack(spikes), torch.stack(membranes), torch.stack(countdowns), v, r
