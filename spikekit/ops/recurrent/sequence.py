"""The recurrent LIF over the whole sequence as one operator, with its gradient by hand.

It saves the membranes u; spikes are recomputed from them. With d and k of `spikekit.ops.lif.sequence`:

    g_s[t] = dL/ds[t] + Wᵀ g_u[t+1]                g_u[t] = d·g_s[t] + beta·k·g_u[t+1]
    dL/dx[t] = g_u[t]                              dL/dW = Σ g_u[t] s[t-1]ᵀ, one product over all steps
    dL/ds0 = Wᵀ g_u[0],  dL/dv0 = beta·g_u[0]      all other gradients: the LIF's, given g_s for dL/ds
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.gradients import differentiable_sequence, fake_gradients, reduced
from spikekit.ops.layout import uninitialised_like
from spikekit.ops.lif import sequence as lif
from spikekit.ops.lif import step
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.linear import cpu as linear
from spikekit.ops.linear.events import outer
from spikekit.ops.operators import fake, not_differentiable, operator
from spikekit.ops.recurrent import cpu
from spikekit.surrogate import decode


@operator("recurrent")
def recurrent_sequence(
    x: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    compiled: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes (empty unless `keep`) and last v, contiguous; differentiable with `keep`.

    compiled: take the C kernel, which adds up the weights of those that fired; else a matrix product a step.
    """
    forward = cpu.forward if compiled else _forward
    spikes, membranes, v = forward(x, v0, s0, weight, (beta, threshold, quantum), reset, inclusive, keep)
    return spikes, v.new_empty(0) if membranes is None else membranes, v


def _forward(
    x: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    beta, threshold, quantum = parameters
    spikes = x.new_empty(x.shape)
    v = torch.zeros_like(spikes[0], dtype=state_dtype(x.dtype)) if v0 is None else v0.clone().contiguous()
    s = torch.zeros_like(v) if s0 is None else s0.clone().contiguous()
    membranes = v.new_empty(x.shape) if keep else None
    u, drive = torch.empty_like(v), torch.empty_like(v)
    for t in range(len(x)):
        torch.mm(s, weight.t(), out=drive).add_(x[t])
        torch.mul(v, beta, out=u).add_(drive)
        step.spike(u, threshold, inclusive, s)
        spikes[t].copy_(s)
        if membranes is not None:
            membranes[t].copy_(u)
        v.copy_(step.after_reset(u, s, quantum, reset, v))
    return spikes, membranes, v


@operator("recurrent_backward")
def recurrent_backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    compiled: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, v0, s0, weight, beta, threshold, quantum; those not needed come back empty."""
    _, need_v0, need_s0, need_weight, *need_parameters = needs
    parameters = (beta, threshold, quantum)
    rule = (reset, inclusive, detach_reset, surrogate, surrogate_numbers)
    if compiled and grad_membranes is None:
        g_u, sums = cpu.backward(grad_spikes, grad_v, membranes, v0, weight, parameters, *rule, any(need_parameters))
    else:
        g_u, sums = _backward_steps(
            grad_spikes, grad_v, grad_membranes, membranes, v0, weight, parameters, *rule, need_parameters
        )
    empty = g_u.new_empty(0)
    return (  # type: ignore[return-value]
        g_u.to(grad_spikes.dtype),
        g_u[0] * beta if need_v0 else empty,
        torch.mm(g_u[0], weight, out=torch.empty_like(g_u[0])) if need_s0 else empty.clone(),
        _weight_gradient(g_u, membranes, s0, threshold, inclusive, compiled) if need_weight else empty.clone(),
        *reduced(sums, parameters, need_parameters),
    )


def _backward_steps(
    grad_spikes: Tensor,
    grad_v: Tensor | None,
    grad_membranes: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    weight: Tensor,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    needs: Sequence[bool],
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of u, and those of beta, threshold and quantum that are needed; no list of these where none is."""
    beta, threshold, quantum = parameters
    rule = (threshold, quantum, reset, inclusive, detach_reset)
    slope = decode(surrogate, list(surrogate_numbers)).derivative(membranes - threshold)
    factor = step.feedback(membranes, slope, beta, *rule, uninitialised_like(membranes))
    g_s = uninitialised_like(membranes).copy_(grad_spikes)
    g_u = uninitialised_like(membranes)
    after: Tensor | None = None
    for t in reversed(range(len(membranes))):
        if after is not None:
            g_s[t].addmm_(after, weight)
        now = torch.mul(slope[t], g_s[t], out=g_u[t])
        if after is None:
            if grad_v is not None:
                end = step.feedback(membranes[t], slope[t], torch.ones_like(beta), *rule, torch.empty_like(now))
                now.add_(grad_v * end)
        elif isinstance(factor, Tensor):
            now.addcmul_(factor[t], after)
        else:
            now.add_(after, alpha=factor)
        if grad_membranes is not None:
            now.add_(grad_membranes[t])
        after = now
    if not any(needs):
        return g_u, []
    # With g_s for dL/ds these are the gradients of an LIF.
    choices = (reset, inclusive, detach_reset, surrogate, surrogate_numbers)
    upstream = (g_s, grad_membranes, grad_v, membranes, v0, beta, threshold, quantum)
    return g_u, list(lif.backward(*upstream, *choices, [False, False, *needs])[2:])


def _weight_gradient(
    g_u: Tensor, membranes: Tensor, s0: Tensor | None, threshold: Tensor, inclusive: bool, compiled: bool
) -> Tensor:
    neurons = g_u.shape[2]
    if len(g_u) > 1:
        before = membranes[:-1]
        spikes = step.spike(before, threshold, inclusive, uninitialised_like(before)).flatten(0, 1)
        after = g_u[1:].flatten(0, 1)
        if compiled and linear.supports(g_u.dtype):
            grad = outer(spikes, after)
        else:
            grad = torch.mm(after.t(), spikes, out=g_u.new_empty(neurons, neurons))
    else:
        grad = g_u.new_zeros(neurons, neurons)
    return grad if s0 is None else grad.addmm_(g_u[0].t(), s0)


@fake("recurrent")
def _(x: Tensor, v0: Tensor | None, s0: Tensor | None, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = state_dtype(x.dtype)
    shape = x.shape if rest[-1] else (0,)
    return x.new_empty(x.shape), x.new_empty(shape, dtype=dtype), x.new_empty(x.shape[1:], dtype=dtype)


@fake("recurrent_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_gradients(grad_spikes, rest[2], rest[5:9], rest[-1])


differentiable_sequence("recurrent", recurrent_backward, tensors=7, forward_only=1)
not_differentiable("recurrent_backward")
