"""The sigma-delta neuron in fixed point: a plain loop over time in int64.

    sigma = sigma + (a << exponent)                what arrives is wrapped once into (-2^23, 2^23], as in Lava's LIF;
                                                   sigma is clipped to ±(2^23 - 1)
    act' = max(sigma + bias, 0) | sigma + bias     clipped as above
    delta = act' - act + residue                   clipped as above
    s = (delta + half) >> cut if |delta| >= threshold else 0      half = 2^cut / 2; s is clipped to ±largest
    residue = delta - (s << cut)
    act = act'

a: the sum of weights times messages that arrives in a step. A message is in units of 2^cut of the state: rounding to
them, and clipping to the largest message, leave a rest in the residue, so that all messages so far still follow act.
Lava's own process loses that rest: its residue is delta - (s << cut) only where cut = 0, and there, with messages and
states inside their limits, the numbers are Lava's (lava-nc 0.10.0, lava.proc.sdn.models, which knows no limits).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.ops.integer.reference import STATE_MAX, wrapped


@dataclass(frozen=True)
class SigmaDeltaRule:
    """What is no tensor: exponent of the weights, activation "relu" | "none", the largest message."""

    exponent: int
    activation: str
    largest: int = STATE_MAX


def sigma_delta_integer(
    sums: Tensor, bias: Tensor, threshold: Tensor, cut: Tensor, rule: SigmaDeltaRule
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence, from rest.

    sums: a [T, B, ...], whole numbers in any dtype. bias, threshold (> 0), cut (0 to 23): int64 [...]. Returns messages
    s [T, B, ...] in the dtype of sums, sigma and act [T, B, ...] int32, the last residue [B, ...] int32.
    """
    messages = torch.empty_like(sums)
    sigmas, activations = (torch.empty_like(sums, dtype=torch.int32) for _ in range(2))
    sigma = torch.zeros_like(sums[0], dtype=torch.int64)
    act, residue, half = torch.zeros_like(sigma), torch.zeros_like(sigma), (1 << cut) >> 1
    for t, a in enumerate(sums.unbind(0)):
        sigma = _clipped(sigma + wrapped(a.to(torch.int64) << rule.exponent))
        before, act = act, _clipped(sigma + bias)
        if rule.activation == "relu":
            act = act.clamp(min=0)
        delta = _clipped(act - before + residue)
        sent = ((delta + half) >> cut).clamp(-rule.largest, rule.largest)
        sent = torch.where(delta.abs() >= threshold, sent, 0)
        residue = delta - (sent << cut)
        messages[t], sigmas[t], activations[t] = sent, sigma, act
    return messages, sigmas, activations, residue.to(torch.int32)


def _clipped(value: Tensor) -> Tensor:
    return value.clamp(-STATE_MAX, STATE_MAX)
