"""The LIF modulated by astrocytes in fixed point, for a Loihi-style chip: a plain loop over time in int64.

Calcium c counts 2^22 for 1.0; what is a part of 1.0, a decay or a factor, counts 4,096. In every domain, from rest:

    z = (offset + weight_1·(c_1 >> 10) + ... + weight_K·(c_K >> 10)) >> 12       brought into 0..4,095
    f = (table[z >> 4]·(16 - (z & 15)) + table[(z >> 4) + 1]·(z & 15)) >> 4
    a = share·Σ s + heard_share·heard                                            at most 2^22, not below 0
    c_k = (c_k·(4,096 - decay_k) + a·decay_k) >> 12                              after the step

and in every neuron, with u = (a << exponent) << 6 wrapped once into (-2^23, 2^23], and then + bias:

    v = sign(v)·(|v|·keep >> 12) + u                clipped to ±(2^23 - 1)
    s = v > θ                                       (>= when inclusive)
    v = v - quantum·s | v·(1 - s) | v               soft reset (clipped as above), hard, none

acts_on "gain": f is g, and sign(u)·(|u|·f >> 12) stands for u. "threshold": f is 2 - g, and θ = (threshold·f) >> 12,
brought into 1..2^23 - 1. Where f is 4,096 the neuron is that of `spikekit.ops.integer.reference`, bit for bit.

Every product is cut off, never rounded up: so calcium that nothing feeds falls to 0 however slow it is. heard: the
number of presynaptic spikes of a domain; share and heard_share: what one of each counts, 2^22 over their neurons, or
half of it. One spike in a large domain of slow calcium may be less than one unit, and is lost. The table holds f at 257
equally distant places of z, with straight lines between, so that nothing is divided.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.ops.astrocyte.reference import spread
from spikekit.ops.integer.reference import STATE_MAX, STATE_SHIFT, IntegerRule, decayed, wrapped

CALCIUM_ONE = 2**22
PARTS = 4096
SEGMENTS = 256

_PART_BITS = 12
_CALCIUM_SHIFT = 10
_BETWEEN_BITS = 4


@dataclass(frozen=True, eq=False)
class Modulator:
    """An astrocyte's numbers, int64: decay, weight [domains, K], offset [domains], table [domains, 257]."""

    acts_on: str
    share: int
    heard_share: int
    decay: Tensor
    weight: Tensor
    offset: Tensor
    table: Tensor

    def factor(self, c: Tensor) -> Tensor:
        """The f [B, domains] of calcium [B, domains, K]."""
        place = (self.offset + (self.weight * (c >> _CALCIUM_SHIFT)).sum(-1)) >> _PART_BITS
        place = place.clamp(0, PARTS - 1)
        at, domain = place >> _BETWEEN_BITS, torch.arange(len(self.offset), device=c.device)
        between = place & (2**_BETWEEN_BITS - 1)
        return _mixed(self.table[domain, at], self.table[domain, at + 1], between, _BETWEEN_BITS)

    def after(self, c: Tensor, spikes: Tensor, heard: Tensor | int) -> Tensor:
        """Calcium behind a step with the spikes [B, C, ...], bool, and so many presynaptic ones [B, domains]."""
        sensed = self.share * spikes.reshape(len(spikes), len(self.offset), -1).sum(-1) + self.heard_share * heard
        return _mixed(c, sensed.clamp(0, CALCIUM_ONE).unsqueeze(-1), self.decay, _PART_BITS)


def astrocyte_integer(
    sums: Tensor,
    bias: Tensor,
    keep: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    modulator: Modulator,
    rule: IntegerRule,
    heard: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    Arguments as in `spikekit.ops.integer.integer_reference`; the neurons [C, ...] of a domain lie side by side. heard:
    [T, B, domains], whole numbers in any dtype, where heard_share is not 0. Returns
    spikes [T, B, C, ...] in the dtype of sums, membranes before the reset int32 of the same shape, the last v
    [B, C, ...] int32 and the last c [B, domains, K] int64.
    """
    spikes = torch.zeros_like(sums)
    membranes = torch.empty_like(sums, dtype=torch.int32)
    v = torch.zeros_like(sums[0], dtype=torch.int64)
    c = torch.zeros((len(v), *modulator.decay.shape), dtype=torch.int64, device=sums.device)
    for t, a in enumerate(sums.unbind(0)):
        factor = spread(modulator.factor(c), v)
        u, level = wrapped(a.to(torch.int64) << (rule.exponent + STATE_SHIFT)) + bias, threshold
        if modulator.acts_on == "gain":
            u = decayed(u, factor)
        else:
            level = ((threshold * factor) >> _PART_BITS).clamp_(1, STATE_MAX)
        v = (decayed(v, keep) + u).clamp_(-STATE_MAX, STATE_MAX)
        membranes[t] = v
        s = v >= level if rule.inclusive else v > level
        spikes[t] = s
        if rule.reset == "soft":
            v = (v - quantum * s).clamp_(-STATE_MAX, STATE_MAX)
        elif rule.reset == "hard":
            v = v * ~s
        c = modulator.after(c, s, 0 if heard is None else heard[t].to(torch.int64))
    return spikes, membranes, v.to(torch.int32), c


def _mixed(first: Tensor, second: Tensor, part: Tensor, bits: int) -> Tensor:
    """The two, weighted by 2^bits - part and by part, cut off."""
    return (first * (2**bits - part) + second * part) >> bits
