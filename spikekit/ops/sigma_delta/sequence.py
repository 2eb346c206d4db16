"""The sigma-delta neuron over the whole sequence as one operator, with its gradient by hand.

It saves the activations. With g = dL/ds, zero behind the last step:

    dL/dact[t] = g[t] - g[t+1]                     dL/dact[-1] = -g[0], dL/dresidue[-1] = g[0]
    dL/dx[t] = dL/dsigma[t] = Σ over t' >= t of [act[t'] > 0]·dL/dact[t']
    dL/dbias = Σ [act[t] > 0]·dL/dact[t]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.layout import uninitialised_like
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator


@operator("sigma_delta")
def sigma_delta_sequence(
    x: Tensor,
    sigma0: Tensor | None,
    act0: Tensor | None,
    residue0: Tensor | None,
    threshold: Tensor,
    bias: Tensor,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Graded spikes, activations (empty unless `keep`), last sigma, act and residue; differentiable with `keep`."""
    dtype = state_dtype(x.dtype)
    spikes = uninitialised_like(x)
    sigma, act, delta, next_act, sent = (torch.empty_like(x[0], dtype=dtype) for _ in range(5))
    residue = torch.zeros_like(sigma) if residue0 is None else torch.empty_like(sigma).copy_(residue0)
    for state, start in ((sigma, sigma0), (act, act0)):
        if start is None:
            state.zero_()
        else:
            state.copy_(start)
    activations = uninitialised_like(x, dtype) if keep else sigma.new_empty(0)
    for t, drive in enumerate(x.unbind(0)):
        sigma.add_(drive)
        torch.add(sigma, bias, out=next_act)
        if activation == "relu":
            next_act.relu_()
        torch.sub(next_act, act, out=delta).add_(residue)
        # Not a product with the comparison: 0·inf is no number.
        spikes[t].copy_(torch.where(torch.abs(delta, out=sent) >= threshold, delta, 0.0))
        torch.sub(delta, spikes[t], out=residue)
        act, next_act = next_act, act
        if keep:
            activations[t].copy_(act)
    return spikes, activations, sigma, act, residue


@operator("sigma_delta_backward")
def sigma_delta_backward(
    grad_spikes: Tensor,
    grad_activations: Tensor | None,
    grad_sigma: Tensor | None,
    grad_act: Tensor | None,
    activations: Tensor,
    bias: Tensor,
    activation: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, sigma0, act0, residue0 and bias; those not needed come back empty."""
    g = uninitialised_like(activations).copy_(grad_spikes)
    empty = g.new_empty(0)
    g_act0 = g[0].neg() if needs[2] else empty
    g_residue0 = g[0].clone() if needs[3] else empty.clone()
    for t in range(len(g) - 1):
        g[t].sub_(g[t + 1])
    if grad_activations is not None:
        g.add_(grad_activations)
    if grad_act is not None:
        g[-1].add_(grad_act)
    if activation == "relu":
        g.mul_(activations > 0)
    g_bias = g.sum((0, 1)).sum_to_size(bias.shape).to(bias.dtype).contiguous() if needs[4] else empty.clone()
    if grad_sigma is not None:
        g[-1].add_(grad_sigma)
    for t in range(len(g) - 2, -1, -1):
        g[t].add_(g[t + 1])
    g_sigma0 = g[0].clone() if needs[1] else empty.clone()
    g_x = g if grad_spikes.dtype == g.dtype else uninitialised_like(g, grad_spikes.dtype).copy_(g)
    return g_x, g_sigma0, g_act0, g_residue0, g_bias


@fake("sigma_delta")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    dtype = state_dtype(x.dtype)
    activations = torch.empty_like(x, dtype=dtype) if rest[-1] else x.new_empty(0, dtype=dtype)
    return torch.empty_like(x), activations, *(torch.empty_like(x[0], dtype=dtype) for _ in range(3))


@fake("sigma_delta_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *_, activations, bias, _, needs = rest
    return (
        torch.empty_like(activations, dtype=grad_spikes.dtype),
        *(torch.empty_like(activations[0]) if need else activations.new_empty(0) for need in needs[1:4]),
        bias.new_empty(bias.shape) if needs[4] else activations.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, _, _, bias, ctx.activation, _ = inputs
    ctx.save_for_backward(output[1], bias)
    ctx.mark_non_differentiable(output[4])
    # Absent gradients stay absent: a recorded trace or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)
    ctx.spike_dtype = x.dtype


def _backward(ctx: Any, grad_spikes: Tensor | None, *rest: Tensor | None) -> Any:
    activations, bias = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(activations, dtype=ctx.spike_dtype)
    x, sigma0, act0, residue0, _, need_bias, *_ = ctx.needs_input_grad
    needs = [bool(need) for need in (x, sigma0, act0, residue0, need_bias)]
    grads = sigma_delta_backward(grad_spikes, *rest[:3], activations, bias, ctx.activation, needs)
    *states, g_bias = (grad if need else None for grad, need in zip(grads, needs, strict=True))
    # None for the threshold and, behind the bias, the activation and whether traces are kept.
    return *states, None, g_bias, None, None


differentiable("sigma_delta", _backward, _setup_context)
not_differentiable("sigma_delta_backward")
