"""The LIF with a refractory period in fixed point, for a Loihi-style chip: a plain loop over time in int64.

    r = 0:   v = sign(v)·(|v|·keep >> 12) + u + bias, s, reset as in spikekit.ops.integer.reference
    r > 0:   v as it is, s = 0                     the membrane is held; the drive and the bias are lost
    r = period if s else max(r - 1, 0)

It is `spikekit.ops.integer.integer_reference` where period = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.integer.reference import STATE_MAX, STATE_SHIFT, IntegerRule, decayed, wrapped


def refractory_integer(
    sums: Tensor,
    bias: Tensor,
    keep: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    period: Tensor,
    rule: IntegerRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence, from rest.

    Arguments as in `spikekit.ops.integer.integer_reference`; period (>= 0, in steps): int64 [...]. Returns spikes
    [T, B, ...] in the dtype of sums, membranes before the reset [T, B, ...] int32, the last v and the last r [B, ...]
    int32.
    """
    spikes = torch.zeros_like(sums)
    membranes = torch.empty_like(sums, dtype=torch.int32)
    v = torch.zeros_like(sums[0], dtype=torch.int64)
    r = torch.zeros_like(v)
    for t, a in enumerate(sums.unbind(0)):
        live = r == 0
        u = wrapped(a.to(torch.int64) << (rule.exponent + STATE_SHIFT))
        v = torch.where(live, (decayed(v, keep) + u + bias).clamp_(-STATE_MAX, STATE_MAX), v)
        membranes[t] = v
        if not rule.fires:
            continue
        s = live & (v >= threshold if rule.inclusive else v > threshold)
        spikes[t] = s
        if rule.reset == "soft":
            v = (v - quantum * s).clamp_(-STATE_MAX, STATE_MAX)
        elif rule.reset == "hard":
            v = v * ~s
        r = torch.where(s, period, (r - 1).clamp_(min=0))
    return spikes, membranes, v.to(torch.int32), r.to(torch.int32)
