"""The LIF neuron that decides on a normalised membrane, defined: a plain loop over time that autograd differentiates.

    u[t] = beta·v[t-1] + x[t]                          v[-1] = v0 (zero at rest)
    m[t] = weight·(u[t] - mean) / sqrt(var + eps) + bias
    s[t] = 1 if m[t] > threshold else 0                (>= when inclusive)
    v[t] = u[t] - quantum·s[t] | u[t]·(1 - s[t]) | u[t]     soft, hard, no reset, of u: m decides and is not kept

In training mean and var are those of step t over the batch (and space, where there is one value a channel), the
variance biased, and the running ones move by each step, in order, the variance by the unbiased one. Otherwise mean and
var are the running ones. Membrane potential batch normalisation, Guo et al. 2023, ICCV, arXiv 2308.08359.

Sums are taken in float64, the variance around the mean in a second pass. Whatever the order of a sum, it rounds to the
same float32, but for one case in some ten million, where a decision at a near tie may go either way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spikekit.ops.lif.reference import LIFRule, after_reset, fire, state_dtype
from spikekit.ops.mpbn.sync import differentiable_sum


class Outcome(NamedTuple):
    """What every path returns.

    spikes: [T, B, C, ...] in the drive's dtype. membranes: u [T, B, C, ...], and v, the last state, in `state_dtype`;
    membranes are empty where nobody needs them. means, variances: of the steps, [T, ...], biased, and mean, var: the
    running ones after them; they carry no gradient, and are empty unless training.
    """

    spikes: Tensor
    membranes: Tensor
    v: Tensor
    means: Tensor
    variances: Tensor
    mean: Tensor
    var: Tensor


def moments(u: Tensor, weight: Tensor, sync: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of a step u [B, ...], of the shape of `weight`, over the axes that share its entries.

    sync: over the batches of all processes.
    """
    axes, count = shared_axes(u, weight), counted(u, weight, sync)
    over_all = differentiable_sum if sync else torch.Tensor.double
    mean = (over_all(u.sum(axes, dtype=torch.float64)) / count).to(u.dtype)
    centred = u - on_step(mean, u)
    return mean, (over_all(centred.double().square().sum(axes)) / count).to(u.dtype)


def counted(u: Tensor, weight: Tensor, sync: bool = False) -> int:
    """How many values of a step u share an entry of `weight`."""
    count = u.numel() // weight.numel()
    return int(differentiable_sum(torch.tensor(count, dtype=torch.float64, device=u.device))) if sync else count


def shared_axes(u: Tensor, weight: Tensor) -> list[int]:
    """The axes of a step u [B, ...] that are normalised together: the batch, and all of space for a `weight` [C]."""
    return [0, *range(2, u.ndim)] if weight.ndim == 1 else [0]


def on_step(value: Tensor, u: Tensor) -> Tensor:
    """`value`, one a channel [C] or one a neuron, shaped to broadcast with a step u [B, ...]."""
    return value.reshape(-1, *([1] * (u.ndim - 2))) if value.ndim == 1 else value


def moved(
    mean: Tensor, var: Tensor, means: Tensor, variances: Tensor, count: int | Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Running mean and variance after steps with the given means and biased variances [T, ...] of `count` values."""
    running = torch.stack((mean, var))
    for step in torch.stack((means, variances * (count / (count - 1))), dim=1):
        running = torch.lerp(running, step, momentum)
    return running[0].clone(), running[1].clone()


def normalise(u: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """The m of a step u [B, ...] by the equation above; the others have the shape of `weight`."""
    scale = weight / torch.sqrt(var + eps)
    return (u - on_step(mean, u)) * on_step(scale, u) + on_step(bias, u)


def mpbn_reference(
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
    rule: LIFRule,
    sync: bool = False,
) -> Outcome:
    """Run the equations above over the whole sequence.

    x: drive [T, B, C, ...]. v0: [B, C, ...] or None. beta, threshold, quantum: broadcastable to the neurons [C, ...].
    weight, bias: [C], or the shape of the neurons for statistics of their own. mean, var: the running ones, of the same
    shape, which are not changed. All but x in `state_dtype`. sync: in training, the batch is that of all processes.
    """
    dtype = state_dtype(x.dtype)
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    spikes, membranes, means, variances = [], [], [], []
    for drive in x.unbind(0):
        u = beta * v + drive.to(dtype)
        now = moments(u, weight, sync) if training else (mean, var)
        s = fire(normalise(u, weight, bias, *now, eps), threshold, rule)
        spikes.append(s.to(x.dtype))
        membranes.append(u)
        if training:
            means.append(now[0].detach())
            variances.append(now[1].detach())
        v = after_reset(u, s, quantum, rule)
    if not training:
        return Outcome(torch.stack(spikes), torch.stack(membranes), v, *[mean.new_empty(0)] * 4)
    steps = torch.stack(means), torch.stack(variances)
    return Outcome(
        torch.stack(spikes),
        torch.stack(membranes),
        v,
        *steps,
        *moved(mean, var, *steps, counted(x[0], weight, sync), momentum),
    )
