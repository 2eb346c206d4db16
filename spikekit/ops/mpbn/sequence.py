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
from spikekit.ops.mpbn.reference import Outcome, moved, on_step, shared_axes
from spikekit.surrogate import decode


def _spike(m: Tensor, threshold: Tensor, inclusive: bool, out: Tensor) -> Tensor:
    return (torch.ge if inclusive else torch.gt)(m, threshold, out=out)


def _after_reset(u: Tensor, s: Tensor, quantum: Tensor, reset: str, out: Tensor) -> Tensor:
    """State v from u and s into `out`. Products with s are exact: a fused form rounds like the reference."""
    if reset == "none":
        return out.copy_(u)
    return torch.addcmul(u, u if reset == "hard" else s, s if reset == "hard" else quantum, value=-1, out=out)


def _mean(u: Tensor, axes: list[int], count: int) -> Tensor:
    return (u.sum(axes, dtype=torch.float64) / count).to(u.dtype)


def _mean_square(centred: Tensor, axes: list[int], count: int) -> Tensor:
    return (centred.double().square().sum(axes) / count).to(centred.dtype)


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
    axes, count = shared_axes(x[0], weight), x[0].numel() // weight.numel()
    shift = on_step(bias, x[0])
    row, m, s, last = (torch.empty_like(x[0], dtype=dtype) for _ in range(4))
    v = v0
    for t, drive in enumerate(x.unbind(0)):
        u = membranes[t] if keep else row
        if v is None:
            u.copy_(drive)
        else:
            torch.mul(v, beta, out=u).add_(drive)
        now = _mean(u, axes, count) if training else mean
        torch.sub(u, on_step(now, u), out=m)
        spread = _mean_square(m, axes, count) if training else var
        if training:
            means[t], variances[t] = now, spread
        m.mul_(on_step(weight / torch.sqrt(spread + eps), u)).add_(shift)
        spikes[t] = _spike(m, threshold, inclusive, s)
        v = _after_reset(u, s, quantum, reset, last)
    if not training:
        return Outcome(spikes, membranes, last, means, variances, *(mean.new_empty(0) for _ in range(2)))
    after = moved(mean, var, means, variances, count, momentum)
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
    axes, count = shared_axes(membranes[0], weight), membranes[0].numel() // weight.numel()
    shift = on_step(bias, membranes[0])
    g_x = uninitialised_like(membranes)
    g_weight, g_bias = (torch.zeros_like(weight, dtype=torch.float64) for _ in range(2))
    sums = [torch.zeros_like(membranes[0, 0], dtype=torch.float64) for _ in range(3)] if learn else []
    g_v = torch.zeros_like(membranes[0])
    if grad_v is not None:
        g_v.copy_(grad_v)
    centred, m, s, work = (torch.empty_like(g_v) for _ in range(4))
    for t in reversed(range(len(membranes))):
        u = membranes[t]
        now, spread = (mean[t], var[t]) if training else (mean, var)
        deviation = torch.sqrt(spread + eps)
        scale = on_step(weight / deviation, u)
        torch.sub(u, on_step(now, u), out=centred)
        torch.mul(centred, scale, out=m).add_(shift)
        _spike(m, threshold, inclusive, s)
        g_m = curve.derivative(m - threshold)
        if learn:
            if t + 1 < len(membranes):
                sums[0] += _after_reset(u, s, quantum, reset, work).mul_(g_x[t + 1]).sum(0)
            if reset == "soft":
                sums[2] -= torch.mul(s, g_v, out=work).sum(0)
        through = torch.zeros_like(u) if grad_spikes is None else grad_spikes[t]
        if attached:
            through = torch.addcmul(through, quantum if reset == "soft" else u, g_v, value=-1)
        g_m.mul_(through)
        if learn:
            sums[1] -= g_m.sum(0)
        if reset == "hard":
            g_v.addcmul_(g_v, s, value=-1)
        along = g_m.sum(axes, dtype=torch.float64)
        across = torch.mul(g_m, centred, out=work).sum(axes, dtype=torch.float64)
        g_bias += along
        g_weight += across / deviation
        if training:
            tilt = (across / (count * (spread + eps))).to(u.dtype)
            g_m.sub_(on_step((along / count).to(u.dtype), u)).sub_(centred.mul_(on_step(tilt, u)))
        g_u = torch.addcmul(g_v, g_m, scale, out=g_x[t])
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        torch.mul(g_u, beta, out=g_v)
    if learn and v0 is not None:
        sums[0] += (g_x[0] * v0).sum(0)
    return [g_x, g_v, g_weight, g_bias, *sums]
