"""The whole-sequence path in pure PyTorch: a loop over time on rows that are written in place, gradients by hand.

It saves the membranes u and the statistics of the steps. With sigma = sqrt(var + eps), n = (u - mean) / sigma,
d = surrogate'(m - threshold) and g_v = dL/dv[t], from the last step to the first

    g_m = d·(dL/ds[t] - r·g_v)             r: soft quantum, hard u, none or a detached reset 0
    dL/du[t] = k·g_v + weight/sigma·(g_m - mean(g_m) - n·mean(g_m·n))      k: hard 1 - s, else 1
    dL/dx[t] = dL/du[t]                    dL/dv[t-1] = beta·dL/du[t]      dL/dbeta = Σ dL/du[t]·v[t-1]
    dL/dthreshold = -Σ g_m                 dL/dquantum = -Σ s·g_v (soft)
    dL/dweight = Σ g_m·n                   dL/dbias = Σ g_m

The two means, over the axes of the statistics and, with `sync`, all processes, are the gradient through mean and var;
with given statistics they are absent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.layout import uninitialised_like
from spikekit.ops.lif import step
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.mpbn import sync
from spikekit.ops.mpbn.layer import Layer
from spikekit.ops.mpbn.reference import Outcome, counted, moments, moved, on_step, shared_axes
from spikekit.surrogate import decode


def forward(x: Tensor, v0: Tensor | None, layer: Layer, keep: bool) -> Outcome:
    """The whole sequence; membranes are empty unless `keep`."""
    dtype, training = state_dtype(x.dtype), layer.training
    weight, bias, mean, var = layer.norm
    spikes = uninitialised_like(x)
    membranes = uninitialised_like(x, dtype) if keep else x.new_empty(0, dtype=dtype)
    shape = (len(x), *weight.shape) if training else (0,)
    means, variances = (x.new_empty(shape, dtype=dtype) for _ in range(2))
    count: int | Tensor = counted(x[0], weight)
    axes, shift = shared_axes(x[0], weight), on_step(bias, x[0])
    row, m, s, last = (torch.empty_like(x[0], dtype=dtype) for _ in range(4))
    v = v0
    for t, drive in enumerate(x.unbind(0)):
        u = membranes[t] if keep else row
        if v is None:
            u.copy_(drive)
        else:
            torch.mul(v, layer.beta, out=u).add_(drive)
        if layer.sync:
            mean, var, count = sync.moments(u, axes, weight.shape, len(x))
        elif training:
            mean, var = moments(u, weight)
        if training:
            means[t], variances[t] = mean, var
        torch.sub(u, on_step(mean, u), out=m).mul_(on_step(weight / torch.sqrt(var + layer.eps), u)).add_(shift)
        spikes[t] = step.spike(m, layer.threshold, layer.inclusive, s)
        v = step.after_reset(u, s, layer.quantum, layer.reset, last)
    if v is not last:
        # Without a reset it is the last membrane, and an operator must not hand out one of its outputs twice.
        last.copy_(v)  # type: ignore[arg-type]
    if not training:
        return Outcome(spikes, membranes, last, means, variances, *(mean.new_empty(0) for _ in range(2)))
    return Outcome(
        spikes,
        membranes,
        last,
        means,
        variances,
        *moved(layer.mean, layer.var, means, variances, count, layer.momentum),
    )


def backward(
    grad_spikes: Tensor | None,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    layer: Layer,
    learn: bool,
) -> list[Tensor]:
    """Gradients of x and v0 in the state's dtype, of weight and bias in float64, and with `learn` those of beta,
    threshold and quantum for every neuron in float64.

    Of the parameters, of this process alone: DistributedDataParallel brings them together.
    """
    curve = decode(layer.surrogate, list(layer.numbers))
    reset, training = layer.reset, layer.training
    beta, threshold, quantum = layer.neuron
    weight, bias, mean, var = layer.norm
    attached = not layer.detach_reset and reset != "none"
    count: int | Tensor = counted(membranes[0], weight)
    axes, shift = shared_axes(membranes[0], weight), on_step(bias, membranes[0])
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
        deviation = torch.sqrt(spread + layer.eps)
        scale = on_step(weight / deviation, u)
        torch.sub(u, on_step(now, u), out=centred)
        torch.mul(centred, scale, out=m).add_(shift)
        step.spike(m, threshold, layer.inclusive, s)
        g_m = curve.derivative(m - threshold)
        if learn:
            if t + 1 < len(membranes):
                v = step.after_reset(u, s, quantum, reset, work)
                sums[0] += torch.mul(v, g_x[t + 1], out=work).sum(0)
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
        if layer.sync:
            count, along, across = sync.total(counted(u, weight), along, across)
        if training:
            tilt = (across / (count * (spread + layer.eps))).to(u.dtype)
            g_m.sub_(on_step((along / count).to(u.dtype), u)).sub_(centred.mul_(on_step(tilt, u)))
        g_u = torch.addcmul(g_v, g_m, scale, out=g_x[t])
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        torch.mul(g_u, beta, out=g_v)
    if learn and v0 is not None:
        sums[0] += (g_x[0] * v0).sum(0)
    return [g_x, g_v, g_weight, g_bias, *sums]
