"""The neuron of Loihi in fixed point, as Lava 0.10 computes it, defined: a plain loop over time in int64.

    u = (a << exponent) << 6                       wrapped once into (-2^23, 2^23]
    v = sign(v)·(|v|·keep >> 12) + u + bias        clipped to ±(2^23 - 1)

or, with a current that is kept, to which the bias belongs then,

    u = sign(u)·(|u|·keep_current >> 12) + ((a << exponent) << 6) + bias      wrapped once
    v = sign(v)·(|v|·keep >> 12) + u                                          clipped

    s = v > threshold                              (>= when inclusive)
    v = v - quantum·s | v·(1 - s) | v              soft reset (clipped as above), hard, none

a: the sum of weights that arrives in a step. keep = 4,096 - decay, keep_current = 4,095 - decay. Source: lava-nc
0.10.0, lava.proc.lif.models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STATE_MAX = 2**23 - 1
STATE_SHIFT = 6
WRAP = 2**23


@dataclass(frozen=True)
class IntegerRule:
    """What is no tensor: exponent of the weights, reset "soft" | "hard" | "none", comparison, whether it fires."""

    exponent: int
    reset: str
    inclusive: bool
    fires: bool


def integer_reference(
    sums: Tensor,
    bias: Tensor,
    keep: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: IntegerRule,
    keep_current: Tensor | None = None,
    recurrent: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence, from rest.

    sums: a [T, B, ...], whole numbers in any dtype, |a| << exponent below 2^25, below 2^24 with a kept current. bias,
    keep, threshold (as compared with v), quantum, keep_current: int64 [...]. recurrent: spikes of the last step
    [B, ...] in the dtype of sums -> what they add to a. Returns spikes [T, B, ...] in the dtype of sums, membranes
    before the reset [T, B, ...] int32 and the last v [B, ...] int32.
    """
    spikes = torch.zeros_like(sums)
    membranes = torch.empty_like(sums, dtype=torch.int32)
    v = torch.zeros_like(sums[0], dtype=torch.int64)
    current = torch.zeros_like(v)
    for t, a in enumerate(sums.unbind(0)):
        if recurrent is not None and t > 0:
            a = a + recurrent(spikes[t - 1])
        u = a.to(torch.int64) << (rule.exponent + STATE_SHIFT)
        if keep_current is None:
            u = wrapped(u) + bias
        else:
            u = current = wrapped(decayed(current, keep_current) + u + bias)
        v = (decayed(v, keep) + u).clamp_(-STATE_MAX, STATE_MAX)
        membranes[t] = v
        if not rule.fires:
            continue
        s = v >= threshold if rule.inclusive else v > threshold
        spikes[t] = s
        if rule.reset == "soft":
            # Only a quantum below 0, which adds, can reach the limit.
            v = (v - quantum * s).clamp_(-STATE_MAX, STATE_MAX)
        elif rule.reset == "hard":
            v = v * ~s
    return spikes, membranes, v.to(torch.int32)


def decayed(v: Tensor, keep: Tensor) -> Tensor:
    """A state times keep / 4096, rounded towards zero."""
    return v.sign() * ((v.abs() * keep) >> 12)


def wrapped(u: Tensor) -> Tensor:
    """A current brought once into (-2^23, 2^23]: not two's complement."""
    u = torch.where(u > WRAP, u - 2 * WRAP, u)
    return torch.where(u <= -WRAP, u + 2 * WRAP, u)
