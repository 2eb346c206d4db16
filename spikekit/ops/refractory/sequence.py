"""The whole sequence in plain torch: buffers written in place, gradients by hand.

It saves the membranes u and the countdowns r; spikes are computed again from them, bit for bit. With live = 1 where
r[t-1] = 0, d = live·surrogate'(u[t] - threshold) and the gradient g_v of v[t], from the last step to the first:

    g_m = d·(dL/ds[t] - {soft: quantum, hard: u, none or a detached reset: 0}·g_v)
    g_u = g_m + {hard: 1 - s, else 1}·g_v          dL/dx[t] = live·g_u
    dL/dv[t-1] = {live: beta, else 1}·g_u          dL/dbeta = Σ live·g_u·v[t-1]
    dL/dthreshold = -Σ g_m                         dL/dquantum = -Σ g_v·s
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
    r0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    period: int,
    keep: bool,
) -> tuple[Tensor, ...]:
    """Spikes, membranes and countdowns (empty unless `keep`), last v and last r.

    parameters: beta, threshold, quantum.
    """
    beta, threshold, quantum = parameters
    dtype = state_dtype(x.dtype)
    spikes = uninitialised_like(x)
    u, s, live = (torch.empty_like(x[0], dtype=dtype) for _ in range(3))
    v, r = copied(v0, u), copied(r0, u)
    membranes, countdowns = (uninitialised_like(x, dtype) if keep else u.new_empty(0) for _ in range(2))
    rows_u, rows_r = (kept.unbind(0) if keep else repeat(None) for kept in (membranes, countdowns))
    for drive, fired, row_u, row_r in zip(x.unbind(0), spikes.unbind(0), rows_u, rows_r, strict=False):
        torch.eq(r, 0, out=live)
        torch.mul(v, beta, out=u).add_(drive)
        torch.where(live > 0, u, v, out=u)
        lif.spike(u, threshold, inclusive, s).mul_(live)
        fired.copy_(s)
        r.sub_(1).clamp_(min=0).add_(s, alpha=period)
        v.copy_(lif.after_reset(u, s, quantum, reset, v))
        if row_u is not None and row_r is not None:
            row_u.copy_(u)
            row_r.copy_(r)
    return spikes, membranes, countdowns, v, r


def backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    countdowns: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    learn: bool,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Gradients of x and v0, and with `learn` of the parameters for every neuron, summed over time."""
    beta, threshold, quantum = parameters
    curve = decode(surrogate, list(surrogate_numbers))
    g_x = uninitialised_like(membranes, grad_spikes.dtype)
    rest = torch.zeros_like(membranes[0])
    g_v = copied(grad_v, rest)
    sums = [torch.zeros_like(rest) for _ in parameters] if learn else []

    def fired(t: int) -> tuple[Tensor, Tensor]:
        """Who took part in step t, and the spikes."""
        live = ((rest if r0 is None else r0) if t == 0 else countdowns[t - 1]) == 0
        return live, lif.spike(membranes[t], threshold, inclusive, torch.empty_like(rest)).mul_(live)

    live, s = fired(len(membranes) - 1)
    for t in reversed(range(len(membranes))):
        u = membranes[t]
        g_m = torch.empty_like(rest).copy_(grad_spikes[t])
        if not detach_reset and reset != "none":
            g_m.addcmul_(quantum if reset == "soft" else u, g_v, value=-1)
        g_m.mul_(curve.derivative(u - threshold)).mul_(live)
        g_u = g_m + (g_v - g_v * s if reset == "hard" else g_v)
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        g_drive = g_u * live
        g_x[t].copy_(g_drive)
        if learn:
            sums[1].sub_(g_m)
            if reset == "soft":
                sums[2].addcmul_(g_v, s, value=-1)
        torch.where(live, g_u * beta, g_u, out=g_v)
        if t > 0:
            live, s = fired(t - 1)
        if learn and t > 0:
            sums[0].addcmul_(g_drive, lif.after_reset(membranes[t - 1], s, quantum, reset, torch.empty_like(rest)))
        elif learn and v0 is not None:
            sums[0].addcmul_(g_drive, v0)
    return (g_x, g_v), sums
