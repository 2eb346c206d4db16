"""The whole sequence in plain torch: buffers written in place, gradients by hand.

It saves the membranes u, the calcium c, the activity a, and for a gain the drive; thresholds and spikes are computed
again from them, bit for bit. With d = surrogate'(u[t] - θ[t]) and the gradients g_v and g_c of v[t] and c[t], from the
last step to the first, in every domain of n neurons:

    dL/da[t] = Σ_k (1 - decay_k)·g_ck              dL/dsensed[t] = (1 - own)·dL/da[t]
    g_s = dL/ds[t] + own·dL/da[t] / n              g_m = d·(g_s - {soft: quantum, hard: u, else 0}·g_v)
    g_u = g_m + {hard: 1 - s, else 1}·g_v          dL/dx[t] = g_u, times g[t] for a gain and for plasticity
    dL/dg[t]: gain Σ g_u·x[t], threshold Σ g_m·threshold, plasticity 0, over the neurons of the domain
    g_z = dL/dg[t]·strength / (1 + |z|)²           dL/dc_k[t-1] = decay_k·g_ck + weight_k·g_z
    dL/dv[t-1] = beta·g_u

    dL/dbeta = Σ g_u·v[t-1]    dL/dthreshold = -Σ g_m, times 2 - g[t] where it moves    dL/dquantum = -Σ g_v·s
    dL/ddecay_k = Σ g_ck·(c_k[t-1] - a[t])    dL/dweight_k = Σ g_z·c_k[t-1]    dL/dbias = Σ g_z
    dL/dstrength = Σ dL/dg[t]·z / (1 + |z|)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.ops.astrocyte.reference import modulation, sense, spread, weighed
from spikekit.ops.layout import copied
from spikekit.ops.lif import step as lif
from spikekit.ops.lif.reference import state_dtype
from spikekit.surrogate import decode


def forward(
    x: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    sensed: Tensor | None,
    parameters: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    acts_on: str,
    own: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes, membranes, calcium and activity a [T, B, domains] (empty unless `keep`), last v and last c; contiguous.

    parameters: beta, threshold and quantum. glia: decay, weight, bias and strength.
    """
    beta, threshold, quantum = parameters
    decay, *modulator = glia
    domains, dtype = len(decay), state_dtype(x.dtype)
    spikes = x.new_empty(x.shape)
    v = copied(v0, spikes.new_empty(x.shape[1:], dtype=dtype))
    c = copied(c0, v.new_empty((x.shape[1], *decay.shape)))
    shapes = (v.shape, c.shape, c.shape[:2])
    membranes, calcium, activity = (v.new_empty((len(x), *shape) if keep else (0,)) for shape in shapes)
    u, s = torch.empty_like(v), torch.empty_like(v)
    for t, drive in enumerate(x.unbind(0)):
        g = modulation(c, *modulator)
        level = threshold * spread(2 - g, drive) if acts_on == "threshold" else threshold
        torch.mul(v, beta, out=u).add_(spread(g, drive) * drive.to(dtype) if acts_on == "gain" else drive)
        lif.spike(u, level, inclusive, s)
        spikes[t].copy_(s)
        a = sense(s, domains, None if sensed is None else sensed[t], own)
        c.mul_(decay).add_((1 - decay) * a.unsqueeze(-1))
        v.copy_(lif.after_reset(u, s, quantum, reset, v))
        if keep:
            membranes[t], calcium[t], activity[t] = u, c, a
    return spikes, membranes, calcium, activity, v, c


def backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_calcium: Tensor | None,
    grad_v: Tensor | None,
    grad_c: Tensor | None,
    membranes: Tensor,
    calcium: Tensor,
    activity: Tensor,
    x: Tensor | None,
    v0: Tensor | None,
    c0: Tensor | None,
    parameters: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    acts_on: str,
    own: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Gradients of x, v0, c0, sensed; with `learn` of the parameters, a neuron; of the glia.

    x: the drive, None unless acts_on is "gain".
    """
    beta, threshold, quantum = parameters
    decay, weight, bias, strength = glia
    curve = decode(surrogate, list(surrogate_numbers))
    domains, n = len(decay), membranes[0, 0].numel() // len(decay)
    g_x = grad_spikes.new_empty(grad_spikes.shape)
    rest, calm = torch.zeros_like(membranes[0]), torch.zeros_like(calcium[0])
    g_v, g_c = copied(grad_v, rest), copied(grad_c, calm)
    g_sensed = torch.empty_like(activity)
    sums = [torch.zeros_like(rest) for _ in parameters] if learn else []
    of_glia = [torch.zeros_like(value) for value in glia]
    start_v, start_c = (still if start is None else start for still, start in ((rest, v0), (calm, c0)))

    def over_domain(value: Tensor) -> Tensor:
        return value.reshape(len(value), domains, n).sum(-1)

    def decided(t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Calcium before step t, and the modulation, the threshold and the spikes of the step."""
        before = calcium[t - 1] if t > 0 else start_c
        g = modulation(before, weight, bias, strength)
        level = threshold * spread(2 - g, rest) if acts_on == "threshold" else threshold.expand_as(rest)
        return before, g, level, lif.spike(membranes[t], level, inclusive, torch.empty_like(rest))

    before, g, level, s = decided(len(membranes) - 1)
    for t in reversed(range(len(membranes))):
        u = membranes[t]
        if grad_calcium is not None:
            g_c.add_(grad_calcium[t])
        of_glia[0].add_((g_c * (before - activity[t].unsqueeze(-1))).sum(0))
        of_activity = ((1 - decay) * g_c).sum(-1)
        g_sensed[t].copy_((1 - own) * of_activity)
        g_s = grad_spikes[t].to(u.dtype) + spread(own * of_activity * (1 / n), rest)
        if not detach_reset and reset != "none":
            g_s.addcmul_(quantum if reset == "soft" else u, g_v, value=-1)
        g_m = g_s.mul_(curve.derivative(u - level))
        g_u = g_m + (g_v - g_v * s if reset == "hard" else g_v)
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        g_x[t].copy_(g_u if acts_on == "threshold" else g_u * spread(g, rest))
        if learn:
            sums[1].sub_(g_m * spread(2 - g, rest) if acts_on == "threshold" else g_m)
            if reset == "soft":
                sums[2].addcmul_(g_v, s, value=-1)
        z = weighed(before, weight, bias)
        width = 1 + z.abs()
        of_g = torch.zeros_like(z)
        if x is not None:
            of_g = over_domain(g_u * x[t])
        elif acts_on == "threshold":
            of_g = over_domain(g_m * threshold)
        of_glia[3].add_((of_g * z / width).sum(0))
        of_z = (of_g * strength / (width * width)).unsqueeze(-1)
        of_glia[1].add_((of_z * before).sum(0))
        of_glia[2].add_(of_z.squeeze(-1).sum(0))
        g_c.mul_(decay).add_(of_z * weight)
        torch.mul(g_u, beta, out=g_v)
        if t > 0:
            before, g, level, s = decided(t - 1)
        if learn:
            v = lif.after_reset(membranes[t - 1], s, quantum, reset, torch.empty_like(rest)) if t > 0 else start_v
            sums[0].addcmul_(g_u, v)
    return g_x, g_v, g_c, g_sensed, sums, of_glia
