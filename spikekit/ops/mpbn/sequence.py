"""The whole-sequence path in pure PyTorch: a loop over time on rows that are written in place, gradients by hand.

It saves the membranes u and the statistics of the steps. With sigma = sqrt(var + eps), n = (u - mean) / sigma,
d = surrogate'(m - threshold) and g_v = dL/dv[t], from the last step to the first

    g_m = d·(dL/ds[t] - r·g_v)             r: soft quantum, hard u, none or a detached reset 0
    dL/du[t] = k·g_v + weight/sigma·(g_m - mean(g_m) - n·mean(g_m·n))      k: hard 1 - s, else 1
    dL/dx[t] = dL/du[t]                    dL/dv[t-1] = beta·dL/du[t]      dL/dbeta = Σ dL/du[t]·v[t-1]
    dL/dthreshold = -Σ g_m                 dL/dquantum = -Σ s·g_v (soft)
    dL/dweight = Σ g_m·n                   dL/dbias = Σ g_m

The two means, over the axes of the statistics, are the gradient through mean and var; with given statistics they are
absent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.ops.layout import uninitialised_like
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.mpbn.reference import Outcome, moments, moved, normalise, on_step, shared_axes
from spikekit.surrogate import decode


def _spike(m: Tensor, threshold: Tensor, inclusive: bool) -> Tensor:
    return ((m >= threshold) if inclusive else (m > threshold)).to(m.dtype)


def _after_reset(u: Tensor, s: Tensor, quantum: Tensor, reset: str) -> Tensor:
    if reset == "soft":
        return u - quantum * s
    return u * (1 - s) if reset == "hard" else u.clone()


def forward(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    reset: str,
    inclusive: bool,
    keep: bool,
) -> Outcome:
    """The whole sequence; membranes are empty unless `keep`."""
    dtype = state_dtype(x.dtype)
    spikes = uninitialised_like(x)
    membranes = uninitialised_like(x, dtype) if keep else x.new_empty(0, dtype=dtype)
    shape = (len(x), *weight.shape) if training else (0,)
    means, variances = (x.new_empty(shape, dtype=dtype) for _ in range(2))
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    for t, drive in enumerate(x.unbind(0)):
        u = torch.mul(v, beta).add_(drive)
        if training:
            means[t], variances[t] = now = moments(u, weight)
        else:
            now = (mean, var)
        s = _spike(normalise(u, weight, bias, *now, eps), threshold, inclusive)
        spikes[t] = s
        if keep:
            membranes[t] = u
        v = _after_reset(u, s, quantum, reset)
    last = torch.empty_like(x[0], dtype=dtype).copy_(v)
    if not training:
        return Outcome(spikes, membranes, last, means, variances, *(mean.new_empty(0) for _ in range(2)))
    after = moved(mean, var, means, variances, x[0].numel() // weight.numel(), momentum)
    return Outcome(spikes, membranes, last, means, variances, *after)


def backward(
    grad_spikes: Tensor | None,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    training: bool,
    eps: float,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    learn: bool,
) -> list[Tensor]:
    """Gradients of x and v0 in the state's dtype, of weight and bias in float64, and with `learn` those of beta,
    threshold and quantum for every neuron in float64.

    mean, var: of every step in training, else the given ones.
    """
    curve = decode(surrogate, list(numbers))
    attached = not detach_reset and reset != "none"
    axes = shared_axes(membranes[0], weight)
    g_x = uninitialised_like(membranes)
    g_weight, g_bias = (torch.zeros_like(weight, dtype=torch.float64) for _ in range(2))
    sums = [torch.zeros_like(membranes[0, 0], dtype=torch.float64) for _ in range(3)] if learn else []
    g_v = torch.zeros_like(membranes[0]) if grad_v is None else grad_v
    for t in reversed(range(len(membranes))):
        u = membranes[t]
        now = (mean[t], var[t]) if training else (mean, var)
        deviation = torch.sqrt(now[1] + eps)
        m = normalise(u, weight, bias, *now, eps)
        s = _spike(m, threshold, inclusive)
        g_s = torch.zeros_like(u) if grad_spikes is None else grad_spikes[t].to(u.dtype)
        if attached:
            g_s = g_s - (quantum if reset == "soft" else u) * g_v
        g_m = curve.derivative(m - threshold).mul_(g_s)
        n = (u - on_step(now[0], u)) / on_step(deviation, u)
        along, across = g_m.sum(axes, dtype=torch.float64), (g_m * n).sum(axes, dtype=torch.float64)
        g_bias += along
        g_weight += across
        if learn:
            if t + 1 < len(membranes):
                sums[0] += (g_x[t + 1] * _after_reset(u, s, quantum, reset)).sum(0)
            sums[1] -= g_m.sum(0)
            if reset == "soft":
                sums[2] -= (s * g_v).sum(0)
        beside = g_v * (1 - s) if reset == "hard" else g_v
        if training:
            count = u.numel() // weight.numel()
            level, tilt = ((value / count).to(u.dtype) for value in (along, across))
            g_m = g_m - on_step(level, u) - n * on_step(tilt, u)
        g_u = torch.addcmul(beside, g_m, on_step(weight / deviation, u), out=g_x[t])
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        g_v = beta * g_u
    if learn and v0 is not None:
        sums[0] += (g_x[0] * v0).sum(0)
    return [g_x, torch.empty_like(membranes[0]).copy_(g_v), g_weight, g_bias, *sums]
