"""The whole sequence in plain torch: buffers written in place, gradients by hand.

It saves the membranes u and the adaptations a; thresholds and spikes are computed again from them, bit for bit. With
d = surrogate'(u[t] - θ[t]) and the gradients g_v and g_a of v[t] and a[t], from the last step to the first:

    g_s = dL/ds[t] + g_a - {soft: quantum, hard: u, none or a detached reset: 0}·g_v
    g_m = d·g_s                                    dL/dx[t] = g_u = g_m + {hard: 1 - s, else 1}·g_v
    dL/da[t-1] = rho·g_a - step·g_m                dL/dv[t-1] = beta·g_u

    dL/dbeta = Σ g_u·v[t-1]     dL/drho = Σ g_a·a[t-1]     dL/dstep = -Σ g_m·a[t-1]
    dL/dthreshold = -Σ g_m      dL/dquantum = -Σ g_v·s
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor

from spikekit.ops.layout import copied, uninitialised_like
from spikekit.ops.lif import step as lif
from spikekit.ops.lif.reference import state_dtype
from spikekit.surrogate import decode


def forward(
    x: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    """Spikes, membranes and adaptations (empty unless `keep`), last v and last a.

    parameters: beta, threshold, quantum, rho, step.
    """
    beta, threshold, quantum, rho, step = parameters
    dtype = state_dtype(x.dtype)
    spikes = uninitialised_like(x)
    u, level, s = (torch.empty_like(x[0], dtype=dtype) for _ in range(3))
    v, a = copied(v0, u), copied(a0, u)
    membranes, adaptations = (uninitialised_like(x, dtype) if keep else u.new_empty(0) for _ in range(2))
    rows_u, rows_a = (kept.unbind(0) if keep else repeat(None) for kept in (membranes, adaptations))
    for drive, fired, row_u, row_a in zip(x.unbind(0), spikes.unbind(0), rows_u, rows_a, strict=False):
        torch.mul(v, beta, out=u).add_(drive)
        torch.mul(a, step, out=level).add_(threshold)
        lif.spike(u, level, inclusive, s)
        fired.copy_(s)
        a.mul_(rho).add_(s)
        v.copy_(lif.after_reset(u, s, quantum, reset, v))
        if row_u is not None and row_a is not None:
            row_u.copy_(u)
            row_a.copy_(a)
    return spikes, membranes, adaptations, v, a


def backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_adaptations: Tensor | None,
    grad_v: Tensor | None,
    grad_a: Tensor | None,
    membranes: Tensor,
    adaptations: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    learn: bool,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Gradients of x, v0 and a0, and with `learn` of the parameters for every neuron, summed over time."""
    beta, threshold, quantum, rho, step = parameters
    curve = decode(surrogate, list(surrogate_numbers))
    g_x = uninitialised_like(membranes, grad_spikes.dtype)
    rest = torch.zeros_like(membranes[0])
    g_v, g_a = copied(grad_v, rest), copied(grad_a, rest)
    sums = [torch.zeros_like(rest) for _ in parameters] if learn else []
    before = rest if a0 is None else a0

    def fired(t: int) -> tuple[Tensor, Tensor, Tensor]:
        """The adaptation before step t, the threshold that it made, and the spikes."""
        a = adaptations[t - 1] if t > 0 else before
        level = (a * step).add_(threshold)
        return a, level, lif.spike(membranes[t], level, inclusive, torch.empty_like(rest))

    a, level, s = fired(len(membranes) - 1)
    for t in reversed(range(len(membranes))):
        u = membranes[t]
        if grad_adaptations is not None:
            g_a.add_(grad_adaptations[t])
        g_m = g_a + grad_spikes[t]
        if not detach_reset and reset != "none":
            g_m.addcmul_(quantum if reset == "soft" else u, g_v, value=-1)
        g_m.mul_(curve.derivative(u - level))
        g_u = g_m + (g_v - g_v * s if reset == "hard" else g_v)
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        g_x[t].copy_(g_u)
        if learn:
            sums[1].sub_(g_m)
            if reset == "soft":
                sums[2].addcmul_(g_v, s, value=-1)
            sums[3].addcmul_(g_a, a)
            sums[4].addcmul_(g_m, a, value=-1)
        g_a.mul_(rho).sub_(g_m * step)
        torch.mul(g_u, beta, out=g_v)
        if t > 0:
            a, level, s = fired(t - 1)
        if learn and t > 0:
            sums[0].addcmul_(g_u, lif.after_reset(membranes[t - 1], s, quantum, reset, torch.empty_like(rest)))
        elif learn and v0 is not None:
            sums[0].addcmul_(g_u, v0)
    return (g_x, g_v, g_a), sums
