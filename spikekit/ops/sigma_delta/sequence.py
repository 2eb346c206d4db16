"""The whole sequence in plain torch: buffers written in place, gradients by hand.

It saves the activations. With g = dL/ds, zero behind the last step:

    dL/dact[t] = g[t] - g[t+1]                     dL/dact[-1] = -g[0], dL/dresidue[-1] = g[0]
    dL/dx[t] = dL/dsigma[t] = Σ over t' >= t of [act[t'] > 0]·dL/dact[t']
    dL/dbias = Σ [act[t] > 0]·dL/dact[t]
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.layout import copied, uninitialised_like
from spikekit.ops.lif.reference import state_dtype


def forward(
    x: Tensor,
    starts: tuple[Tensor | None, Tensor | None, Tensor | None],
    threshold: Tensor,
    bias: Tensor,
    activation: str,
    keep: bool,
) -> tuple[Tensor, ...]:
    """Graded spikes, activations (empty unless `keep`), last sigma, act and residue. starts: these three at first."""
    dtype = state_dtype(x.dtype)
    spikes = uninitialised_like(x)
    delta, next_act, size = (torch.empty_like(x[0], dtype=dtype) for _ in range(3))
    sigma, act, residue = (copied(start, delta) for start in starts)
    activations = uninitialised_like(x, dtype) if keep else sigma.new_empty(0)
    for t, drive in enumerate(x.unbind(0)):
        sigma.add_(drive)
        torch.add(sigma, bias, out=next_act)
        if activation == "relu":
            next_act.relu_()
        torch.sub(next_act, act, out=delta).add_(residue)
        # Not a product with the comparison: 0·inf is no number.
        spikes[t].copy_(torch.where(torch.abs(delta, out=size) >= threshold, delta, 0.0))
        torch.sub(delta, spikes[t], out=residue)
        act, next_act = next_act, act
        if keep:
            activations[t].copy_(act)
    return spikes, activations, sigma, act, residue


def backward(
    grad_spikes: Tensor,
    grad_activations: Tensor | None,
    grad_sigma: Tensor | None,
    grad_act: Tensor | None,
    activations: Tensor,
    activation: str,
    learn: bool,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Gradients of x and sigma0, and with `learn` of the bias for every neuron, summed over time."""
    g = uninitialised_like(activations).copy_(grad_spikes)
    for t in range(len(g) - 1):
        g[t].sub_(g[t + 1])
    if grad_activations is not None:
        g.add_(grad_activations)
    if grad_act is not None:
        g[-1].add_(grad_act)
    if activation == "relu":
        g.mul_(activations > 0)
    sums = [g.sum(0)] if learn else []
    if grad_sigma is not None:
        g[-1].add_(grad_sigma)
    for t in range(len(g) - 2, -1, -1):
        g[t].add_(g[t + 1])
    g_x = g if grad_spikes.dtype == g.dtype else uninitialised_like(g, grad_spikes.dtype).copy_(g)
    return (g_x, g[0].clone()), sums
