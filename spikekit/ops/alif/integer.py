"""The LIF with an adaptive threshold in fixed point, for a Loihi-style chip: a plain loop over time in int64.

    u = (a << exponent) << 6                       wrapped once into (-2^23, 2^23]
    v = sign(v)·(|v|·keep >> 12) + u + bias        clipped to ±(2^23 - 1)
    θ = threshold + b                              clipped to 2^23 - 1
    s = v > θ                                      (>= when inclusive)
    v = v - quantum·s | v·(1 - s) | v              soft reset (clipped as above), hard, none
    b = (b·keep_b >> 12) + step·s                  clipped to 2^23 - 1

a: the sum of weights that arrives in a step, as in `spikekit.ops.integer.reference`, which this is where step = 0.
b = step·a of `reference.alif_reference`: it is kept in the units of v, so that the threshold takes one addition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.integer.reference import STATE_MAX, STATE_SHIFT, IntegerRule, decayed, wrapped


def alif_integer(
    sums: Tensor,
    bias: Tensor,
    keep: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    keep_b: Tensor,
    step: Tensor,
    rule: IntegerRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence, from rest.

    Arguments as in `spikekit.ops.integer.integer_reference`; keep_b (4,096·rho) and step (>= 0, in the units of v):
    int64 [...]. Returns spikes [T, B, ...] in the dtype of sums, membranes before the reset [T, B, ...] int32, the last
    v and the last b [B, ...] int32.
    """
    spikes = torch.zeros_like(sums)
    membranes = torch.empty_like(sums, dtype=torch.int32)
    v = torch.zeros_like(sums[0], dtype=torch.int64)
    b = torch.zeros_like(v)
    for t, a in enumerate(sums.unbind(0)):
        u = wrapped(a.to(torch.int64) << (rule.exponent + STATE_SHIFT))
        v = (decayed(v, keep) + u + bias).clamp_(-STATE_MAX, STATE_MAX)
        membranes[t] = v
        if not rule.fires:
            continue
        level = (threshold + b).clamp_(max=STATE_MAX)
        s = v >= level if rule.inclusive else v > level
        spikes[t] = s
        if rule.reset == "soft":
            v = (v - quantum * s).clamp_(-STATE_MAX, STATE_MAX)
        elif rule.reset == "hard":
            v = v * ~s
        b = (decayed(b, keep_b) + step * s).clamp_(max=STATE_MAX)
    return spikes, membranes, v.to(torch.int32), b.to(torch.int32)
