"""The LIF modulated by astrocytes, defined: a plain loop over time that autograd differentiates.

An astrocyte watches over a domain: n neurons of neighbouring channels, or more where a channel has positions. It has
K calcium signals, one a time scale. With c[-1] = c0 (zero at rest), in every domain:

    z[t] = bias + weight_1·c_1[t-1] + ... + weight_K·c_K[t-1]
    g[t] = 1 + strength·z[t] / (1 + |z[t]|)                          what the step is modulated by
    u[t] = beta·v[t-1] + g[t]·x[t]                                    acts_on "gain", else beta·v[t-1] + x[t]
    s[t] = 1 if u[t] > θ[t] else 0                                    θ = threshold·(2 - g[t]) for "threshold"
    v[t]: soft u[t] - quantum·s[t], hard u[t]·(1 - s[t]), none u[t]
    a[t] = own·(Σ s[t] / n) + (1 - own)·sensed[t]
    c_k[t] = decay_k·c_k[t-1] + (1 - decay_k)·a[t]

g knows the spikes before its step alone. acts_on "plasticity" leaves u and θ as they are and multiplies dL/dx[t] by
g[t], nothing else. In the backward pass ds/du = -ds/dθ is the surrogate's derivative at u - θ; a detached reset leaves
the gradient through c in place.

Every operation here is one that IEEE arithmetic rounds in one way: z / (1 + |z|) and not tanh, whose last bit differs
between libraries and would flip spikes. The sum of the spikes of a domain is a whole number, exact in any order.
The equations are ours; what stands behind them is said in `sk.Astrocyte`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.ops.lif import reference as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype

ACTS_ON = ("gain", "threshold", "plasticity")


@dataclass(frozen=True)
class AstrocyteRule:
    """What is modulated, one of `ACTS_ON`; own: the share of the neurons' own spikes in what is sensed: 1, 0.5 or 0."""

    acts_on: str
    own: float


def modulation(c: Tensor, weight: Tensor, bias: Tensor, strength: Tensor) -> Tensor:
    """The factor g [..., domains] of a step, from the calcium [..., domains, K] before it.

    weight: [domains, K]. bias, strength: [domains].
    """
    z = bias
    for k in range(weight.shape[1]):
        z = z + weight[:, k] * c[..., k]
    return 1 + strength * (z / (1 + z.abs()))


def spread(value: Tensor, model: Tensor) -> Tensor:
    """A value [B, domains] of each domain for all of its neurons: the shape of `model` [B, C, ...]."""
    rows = value.unsqueeze(-1).expand(*value.shape, model[0].numel() // value.shape[1])
    return rows.reshape(model.shape)


def astrocyte_reference(
    x: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    sensed: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    decay: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: Tensor,
    rule: LIFRule,
    astrocyte: AstrocyteRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, C, ...], C a multiple of the domains. v0: [B, C, ...] or None. c0: [B, domains, K] or None. sensed:
    [T, B, domains], in the dtype of the state; None where own is 1. beta, threshold, quantum: broadcastable to
    [B, C, ...]. decay, weight: [domains, K]. bias, strength: [domains].
    Returns spikes [T, B, C, ...] in x's dtype; membranes u, calcium [T, B, domains, K], the last v and the last c in
    `state_dtype`.
    """
    dtype = state_dtype(x.dtype)
    domains, scales = decay.shape
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    c = x.new_zeros((x.shape[1], domains, scales), dtype=dtype) if c0 is None else c0
    spikes, membranes, calcium = [], [], []
    for t, drive in enumerate(x.unbind(0)):
        g = modulation(c, weight, bias, strength)
        modulated, level = drive.to(dtype), threshold
        if astrocyte.acts_on == "gain":
            modulated = spread(g, drive) * modulated
        elif astrocyte.acts_on == "threshold":
            level = threshold * spread(2 - g, drive)
        else:
            modulated = gated(modulated, spread(g, drive))
        u = beta * v + modulated
        s = lif.fire(u, level, rule)
        v = lif.after_reset(u, s, quantum, rule)
        a = sense(s, domains, None if sensed is None else sensed[t], astrocyte.own)
        c = decay * c + (1 - decay) * a.unsqueeze(-1)
        spikes.append(s.to(x.dtype))
        membranes.append(u)
        calcium.append(c)
    return torch.stack(spikes), torch.stack(membranes), torch.stack(calcium), v, c


def sense(s: Tensor, domains: int, sensed: Tensor | None, own: float) -> Tensor:
    """A [B, domains] of the spikes [B, C, ...] of a step and of what was sensed before the neurons."""
    if sensed is not None and own == 0:
        return sensed
    rows = s.reshape(s.shape[0], domains, -1)
    mean = rows.sum(-1) / rows.shape[-1]
    return mean if sensed is None else own * mean + (1 - own) * sensed


def gated(x: Tensor, factor: Tensor) -> Tensor:
    """X itself, whose gradient is multiplied by `factor`; that of the factor is zero."""
    line = x * factor.detach()
    # Exactly zero is added, as in `lif.fire`.
    return x.detach() + (line - line.detach())
