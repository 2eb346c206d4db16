"""The sigma-delta neuron in fixed point, as Lava 0.10 computes it: a plain loop over time in int64.

    sigma = sigma + (a << exponent)                clipped to ±(2^23 - 1)
    act' = max(sigma + bias, 0) | sigma + bias     clipped as above
    delta = act' - act + residue                   clipped as above
    z = delta if |delta| >= threshold else 0
    residue = delta - z
    s = z >> state_exponent                        rounded down; what is cut off is not sent later
    act = act'

a: the sum of weights times graded spikes that arrives in a step. Lava scales bias and threshold by
2^(spike_exp + state_exp) when the process is made; here they come in the units of sigma. The limits are those of 24
bits, which Lava's simulation of this process does not enforce: below them the numbers are the same; what is clipped is
lost. Source: lava-nc 0.10.0, lava.proc.sdn.models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.ops.integer.reference import STATE_MAX


@dataclass(frozen=True)
class SigmaDeltaRule:
    """What is no tensor: exponent of the weights, state_exponent of what is sent, activation "relu" | "none"."""

    exponent: int
    state_exponent: int
    activation: str


def sigma_delta_integer(
    sums: Tensor, bias: Tensor, threshold: Tensor, rule: SigmaDeltaRule
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence, from rest.

    sums: a [T, B, ...], whole numbers in any dtype. bias, threshold (> 0): int64 [...]. Returns graded spikes s
    [T, B, ...] in the dtype of sums, activations [T, B, ...] int32, the last sigma and the last residue [B, ...] int32.
    """
    spikes = torch.empty_like(sums)
    activations = torch.empty_like(sums, dtype=torch.int32)
    sigma = torch.zeros_like(sums[0], dtype=torch.int64)
    act, residue = torch.zeros_like(sigma), torch.zeros_like(sigma)
    for t, a in enumerate(sums.unbind(0)):
        sigma = _clipped(sigma + (a.to(torch.int64) << rule.exponent))
        before, act = act, _clipped(sigma + bias)
        if rule.activation == "relu":
            act = act.clamp(min=0)
        delta = _clipped(act - before + residue)
        sent = torch.where(delta.abs() >= threshold, delta, 0)
        residue = delta - sent
        spikes[t] = sent >> rule.state_exponent
        activations[t] = act
    return spikes, activations, sigma.to(torch.int32), residue.to(torch.int32)


def _clipped(value: Tensor) -> Tensor:
    return value.clamp(-STATE_MAX, STATE_MAX)
