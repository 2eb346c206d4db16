"""The whole-sequence path in pure PyTorch: one operator a layer, buffers written in place, gradients by hand.

It saves the membranes u and nothing else; spikes and resets are recomputed from them, bit for bit. With

    d = surrogate'(u[t] - threshold),  r = d·dv/ds: soft -d·quantum, hard -d·u, none or a detached reset 0

the backward recursion over g_u = dL/du[t] and g_v = dL/dv[t], from the last step to the first, is linear:

    g_u[t] = d·dL/ds[t] + k·g_v[t]      k = dv/du: soft 1 + r, hard 1 - s + r, none 1
    g_v[t-1] = beta·g_u[t]
    dL/dx[t] = g_u[t]                   dL/dbeta = Σ g_u[t]·v[t-1]
    dL/dquantum = -Σ g_v[t]·s[t]        dL/dthreshold = -Σ (d·dL/ds[t] + r·g_v[t])

so that two operations a step are in sequence; all else is done for blocks of steps that fit the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype
from spikekit.surrogate import decode

# Elements of a block of steps: enough to hide the cost of a call, few enough to stay in cache.
_BLOCK = 1 << 16


def _spike(u: Tensor, threshold: Tensor, inclusive: bool, out: Tensor) -> Tensor:
    return (torch.ge if inclusive else torch.gt)(u, threshold, out=out)


def _after_reset(u: Tensor, s: Tensor, quantum: Tensor, reset: str, out: Tensor) -> Tensor:
    """State v from u and s into `out`. Products with s are exact: a fused form rounds like the reference."""
    if reset == "none":
        return u
    if reset == "hard":
        return torch.addcmul(u, u, s, value=-1, out=out)
    if quantum.ndim == 0 and quantum.device.type == "cpu":
        # sub(alpha) is vectorised where addcmul with a broadcast scalar is not.
        return torch.sub(u, s, alpha=float(quantum), out=out)
    return torch.addcmul(u, s, quantum, value=-1, out=out)


def _forward(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    keep_membranes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = state_dtype(x.dtype)
    spikes = torch.empty_like(x)
    membranes = torch.empty_like(x if keep_membranes else x[:1], dtype=dtype)
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
            _spike(u, threshold, inclusive, s)
        else:
            _spike(u, threshold, inclusive, s_state)
            s.copy_(s_state)
        v = _after_reset(u, s if s_state is None else s_state, quantum, reset, scratch)
    # An operator must not hand out one of its outputs twice: with no reset v is the last row of membranes.
    return spikes, membranes, membranes[-1].clone() if reset == "none" else scratch


@torch.library.custom_op("spikekit::lif", mutates_args=())
def lif_training(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes and last v of the sequence; differentiable."""
    return _forward(x, v0, beta, threshold, quantum, reset, inclusive, keep_membranes=True)


@torch.library.custom_op("spikekit::lif_inference", mutates_args=())
def lif_inference(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes and last v only: the membranes share one row."""
    spikes, _, v = _forward(x, v0, beta, threshold, quantum, reset, inclusive, keep_membranes=False)
    return spikes, v


def _keep(
    u: Tensor,
    slope: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    out: Tensor,
) -> Tensor | None:
    """How much of u reaches v, k in the equations, into `out`; None for one."""
    if reset == "hard":
        lost = _spike(u, threshold, inclusive, out)
        return torch.sub(1, lost if detach_reset else lost.addcmul_(u, slope), out=out)
    if reset == "none" or detach_reset:
        return None
    return _after_reset(u.new_ones(()), slope, quantum, reset, out)


@torch.library.custom_op("spikekit::lif_backward", mutates_args=())
def lif_backward(
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
    g_x = torch.empty_like(membranes, dtype=grad_spikes.dtype)
    g_v = torch.zeros_like(membranes[0])
    if grad_v is not None:
        g_v.copy_(grad_v)
    g_beta, g_threshold, g_quantum = (
        torch.zeros_like(g_v) if need else g_v.new_empty(0) for need in needs[2:]
    )
    rows = max(1, _BLOCK // max(1, g_v.numel()))
    buffers = [torch.empty_like(membranes[:rows]) for _ in range(2)]
    for stop in range(len(membranes), 0, -rows):
        start = max(0, stop - rows)
        u = membranes[start:stop]
        work, g_after = (buffer[: stop - start] for buffer in buffers)
        slope = curve.derivative(u - threshold)
        keep = _keep(u, slope, threshold, quantum, reset, inclusive, detach_reset, out=work)
        if need_threshold and not detach_reset and reset != "none":
            by_reset = slope * (quantum if reset == "soft" else u)
        local = slope.mul_(grad_spikes[start:stop])
        if need_threshold:
            g_threshold.sub_(local.sum(0))
        if grad_membranes is not None:
            local.add_(grad_membranes[start:stop])
        g_u = g_x[start:stop] if g_x.dtype == u.dtype else torch.empty_like(u)
        if need_threshold or need_quantum:
            g_after[-1].copy_(g_v)
        # A step reads dL/dv[t] and leaves dL/dv[t-1]; the first step of a block leaves it for the next block.
        carried = g_v
        leave = (g_v, *g_after[:-1].unbind(0))
        steps = (a.unbind(0) for a in (local, g_u, local if keep is None else keep))
        for add, g, k, left in reversed([*zip(*steps, leave, strict=True)]):
            if keep is None:
                torch.add(add, carried, out=g)
            else:
                torch.addcmul(add, k, carried, out=g)
            carried = torch.mul(g, beta, out=left)
        if g_x.dtype != u.dtype:
            g_x[start:stop] = g_u
        if need_threshold and not detach_reset and reset != "none":
            g_threshold.add_((by_reset * g_after).sum(0))
        if need_quantum and reset == "soft":
            g_quantum.sub_((g_after * _spike(u, threshold, inclusive, work)).sum(0))
        if need_beta:
            before = membranes[max(start, 1) - 1 : stop - 1]
            s, v = work[: len(before)], local[: len(before)]
            _spike(before, threshold, inclusive, s)
            g_beta.add_((g_u[-len(before) :] * _after_reset(before, s, quantum, reset, v)).sum(0))
            if start == 0 and v0 is not None:
                g_beta.addcmul_(g_u[0], v0)

    def reduced(total: Tensor, like: Tensor, need: bool) -> Tensor:
        return total.sum_to_size(like.shape).to(like.dtype).contiguous() if need else total

    return (
        g_x,
        torch.empty_like(membranes[0]).copy_(g_v) if needs[1] else g_v.new_empty(0),
        reduced(g_beta, beta, need_beta),
        reduced(g_threshold, threshold, need_threshold),
        reduced(g_quantum, quantum, need_quantum),
    )


@lif_training.register_fake
def _(x: Tensor, v0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = state_dtype(x.dtype)
    return torch.empty_like(x), torch.empty_like(x, dtype=dtype), torch.empty_like(x[0], dtype=dtype)


@lif_inference.register_fake
def _(x: Tensor, v0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x[0], dtype=state_dtype(x.dtype))


@lif_backward.register_fake
def _(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    needs = rest[-1]
    return (
        torch.empty_like(membranes, dtype=grad_spikes.dtype),
        torch.empty_like(membranes[0]) if needs[1] else membranes.new_empty(0),
        *(
            a.new_empty(a.shape) if need else membranes.new_empty(0)
            for a, need in zip((beta, threshold, quantum), needs[2:], strict=True)
        ),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, v0, beta, threshold, quantum, *rule = inputs
    ctx.save_for_backward(output[1], v0, beta, threshold, quantum)
    ctx.rule = rule
    # Absent gradients stay absent: a recorded membrane or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)
    ctx.spike_dtype = x.dtype


def _backward(
    ctx: Any, grad_spikes: Tensor | None, grad_membranes: Tensor | None, grad_v: Tensor | None
) -> Any:
    membranes, v0, beta, threshold, quantum = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(membranes, dtype=ctx.spike_dtype)
    needs = [bool(need) for need in ctx.needs_input_grad[:5]]
    grads = torch.ops.spikekit.lif_backward(
        grad_spikes, grad_membranes, grad_v, membranes, v0, beta, threshold, quantum, *ctx.rule, needs
    )
    return (
        *(grad if need else None for grad, need in zip(grads, needs, strict=True)),
        *(None for _ in ctx.rule),
    )


lif_training.register_autograd(_backward, setup_context=_setup_context)
