"""The whole sequence in plain torch: buffers written in place, gradients by hand.

It saves the membranes u and nothing else; spikes and resets are recomputed from them, bit for bit. With

    d = surrogate'(u[t] - threshold),  r = d·dv/ds: soft -d·quantum, hard -d·u, none or a detached reset 0

the backward recursion over g_u = dL/du[t], from the last step to the first, is linear, one operation a step:

    g_u[t] = d·dL/ds[t] + beta·k·g_u[t+1]      k = dv/du: soft 1 + r, hard 1 - s + r, none 1

and all else is done for blocks of steps that fit the cache. With g_v[t] = beta·g_u[t+1]

    dL/dx[t] = g_u[t]                          dL/dbeta = Σ g_u[t]·v[t-1]
    dL/dquantum = -Σ g_v[t]·s[t]               dL/dthreshold = -Σ (d·dL/ds[t] + r·g_v[t])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import torch
from torch import Tensor

from spikekit.ops.gradients import reduced
from spikekit.ops.layout import uninitialised_like
from spikekit.ops.lif import step
from spikekit.ops.lif.reference import state_dtype
from spikekit.surrogate import decode

# Elements of a block of steps: enough to hide the cost of a call, few enough to stay in cache.
_BLOCK = 1 << 16


def forward(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    keep_membranes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes and last v; without `keep_membranes` the membranes share one row."""
    dtype = state_dtype(x.dtype)
    spikes = uninitialised_like(x)
    membranes = uninitialised_like(x if keep_membranes else x[:1], dtype)
    # In inference all steps write the same row.
    rows = membranes.unbind(0) if keep_membranes else repeat(membranes[0], len(x))
    scratch = torch.empty_like(x[0], dtype=dtype)
    # A half-precision spike cannot be written by a comparison of float32 and multiply it in one buffer.
    s_state = torch.empty_like(scratch) if x.dtype != dtype else None
    v: Tensor | None = v0
    for drive, u, s in zip(x.unbind(0), rows, spikes.unbind(0), strict=True):
        if v is None:
            u.copy_(drive)
        else:
            torch.mul(v, beta, out=u)
            u.add_(drive)
        if s_state is None:
            step.spike(u, threshold, inclusive, s)
        else:
            step.spike(u, threshold, inclusive, s_state)
            s.copy_(s_state)
        v = step.after_reset(u, s if s_state is None else s_state, quantum, reset, scratch)
    # An operator must not hand out one of its outputs twice: with no reset v is the last row of membranes.
    return spikes, membranes, membranes[-1].clone() if reset == "none" else scratch


def backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, v0, beta, threshold, quantum; those not needed come back empty."""
    curve = decode(surrogate, list(surrogate_numbers))
    _, _, need_beta, need_threshold, need_quantum = needs
    g_x = uninitialised_like(membranes, grad_spikes.dtype)
    later = torch.zeros_like(membranes[0])
    g_beta, g_threshold, g_quantum = (torch.zeros_like(later) if need else later.new_empty(0) for need in needs[2:])
    rule = (threshold, quantum, reset, inclusive, detach_reset)
    rows = max(1, _BLOCK // max(1, later.numel()))
    buffer = torch.empty_like(membranes[:rows])
    for stop in range(len(membranes), 0, -rows):
        start = max(0, stop - rows)
        u, work = membranes[start:stop], buffer[: min(rows, stop)]
        slope = curve.derivative(u - threshold)
        # A carried state has its gradient at the last step only, where no decay comes between v and it.
        end = grad_v if stop == len(membranes) else None
        if end is not None:
            from_end = end * step.feedback(u[-1], slope[-1], torch.ones_like(beta), *rule, work[-1])
        if need_threshold:
            r = 0 if detach_reset or reset == "none" else slope * (quantum if reset == "soft" else u)
        factor = step.feedback(u, slope, beta, *rule, work)
        local = slope.mul_(grad_spikes[start:stop])
        if need_threshold:
            g_threshold.sub_(local.sum(0))
        if grad_membranes is not None:
            local.add_(grad_membranes[start:stop])
        if end is not None:
            local[-1].add_(from_end)
        g_u = g_x[start:stop] if g_x.dtype == u.dtype else torch.empty_like(u)
        after = later
        for t in reversed(range(stop - start)):
            if isinstance(factor, float):
                later = torch.add(local[t], later, alpha=factor, out=g_u[t])
            else:
                later = torch.addcmul(local[t], factor[t], later, out=g_u[t])
        if g_x.dtype != u.dtype:
            g_x[start:stop] = g_u
        if need_threshold or need_quantum:
            g_v = torch.cat((g_u[1:], after.unsqueeze(0))).mul_(beta)
            if end is not None:
                g_v[-1].add_(end)
        if need_threshold:
            g_threshold.add_((r * g_v).sum(0))
        if need_quantum and reset == "soft":
            g_quantum.sub_((step.spike(u, threshold, inclusive, work) * g_v).sum(0))
        if need_beta:
            before = membranes[max(start, 1) - 1 : stop - 1]
            s = step.spike(before, threshold, inclusive, torch.empty_like(before))
            v = step.after_reset(before, s, quantum, reset, torch.empty_like(before))
            g_beta.add_((g_u[-len(before) :] * v).sum(0))
            if start == 0 and v0 is not None:
                g_beta.addcmul_(later, v0)

    return (  # type: ignore[return-value]
        g_x,
        torch.empty_like(later).copy_(later * beta) if needs[1] else later.new_empty(0),
        *reduced((g_beta, g_threshold, g_quantum), (beta, threshold, quantum), needs[2:]),
    )
