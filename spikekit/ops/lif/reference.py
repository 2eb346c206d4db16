"""The leaky integrate-and-fire neuron, defined: a plain loop over time that autograd differentiates.

    u[t] = beta·v[t-1] + x[t]                      v[-1] = v0 (zero at rest)
    s[t] = 1 if u[t] > threshold else 0            (>= when inclusive)
    v[t] = u[t] - quantum·s[t]                     soft reset
    v[t] = u[t]·(1 - s[t])                         hard reset
    v[t] = u[t]                                    no reset

In the backward pass ds/du is the surrogate's derivative at u - threshold. Every fast path is tested against this file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.surrogate import Surrogate


@dataclass(frozen=True)
class LIFRule:
    """The choices that are not tensors: reset "soft" | "hard" | "none", comparison, graph of the reset, surrogate."""

    reset: str
    inclusive: bool
    detach_reset: bool
    surrogate: Surrogate


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the membrane for a drive of `dtype`: half precision integrates in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def fire(u: Tensor, threshold: Tensor, rule: LIFRule) -> Tensor:
    """Spikes {0, 1} of membrane `u`, with the surrogate's gradient."""
    hard = (u >= threshold) if rule.inclusive else (u > threshold)
    m = u - threshold
    # line - line.detach() is exactly zero in the forward pass and has the surrogate's slope in the backward
    # pass. The antiderivative would do the same, but at its kinks autograd takes another side than `derivative`.
    line = rule.surrogate.derivative(m.detach()) * m
    return hard.to(u.dtype) + (line - line.detach())


def after_reset(u: Tensor, s: Tensor, quantum: Tensor, rule: LIFRule) -> Tensor:
    """State v after the spikes `s` of membrane `u`."""
    if rule.detach_reset:
        s = s.detach()
    if rule.reset == "soft":
        return u - quantum * s
    return u * (1 - s) if rule.reset == "hard" else u


def lif_reference(
    x: Tensor, v0: Tensor | None, beta: Tensor, threshold: Tensor, quantum: Tensor, rule: LIFRule
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, ...]. v0: [B, ...] or None. beta, threshold, quantum: broadcastable to [B, ...].
    Returns spikes [T, B, ...] in x's dtype, membranes u [T, B, ...] and the last v [B, ...] in `state_dtype`.
    """
    dtype = state_dtype(x.dtype)
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    spikes, membranes = [], []
    for drive in x.unbind(0):
        u = beta * v + drive.to(dtype)
        s = fire(u, threshold, rule)
        spikes.append(s.to(x.dtype))
        membranes.append(u)
        v = after_reset(u, s, quantum, rule)
    return torch.stack(spikes), torch.stack(membranes), v
