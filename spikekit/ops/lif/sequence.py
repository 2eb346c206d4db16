"""The whole-sequence path in pure PyTorch: one operator a layer, buffers written in place, gradients by hand.

It saves the membranes u and nothing else; spikes and resets are recomputed from them, bit for bit. With

    g_v = dL/dv[t],  d = surrogate'(u[t] - threshold),  g_s = dL/ds[t] + (dL/dv)(dv/ds) unless the reset is detached

the backward recursion, from the last step to the first, is

    soft  g_u = g_v + g_s·d             dv/ds = -quantum
    hard  g_u = g_v·(1 - s) + g_s·d     dv/ds = -u
    none  g_u = g_v + g_s·d             dv/ds = 0
    dL/dx[t] = g_u,  dL/dv[t-1] = beta·g_u,  dL/dbeta += g_u·v[t-1],  dL/dthreshold -= g_s·d,  dL/dquantum -= g_v·s
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype
from spikekit.surrogate import decode


def _spike(u: Tensor, threshold: Tensor, inclusive: bool, out: Tensor) -> None:
    (torch.ge if inclusive else torch.gt)(u, threshold, out=out)


def _after_reset(u: Tensor, s: Tensor, quantum: Tensor, reset: str, out: Tensor) -> Tensor:
    """v from u and s into `out`. Products with s are exact, so any fused form rounds like the reference."""
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
    rows = x.shape[0] if keep_membranes else 1
    membranes = torch.empty_like(x[:rows], dtype=dtype)
    scratch = torch.empty_like(x[0], dtype=dtype)
    # A half-precision spike cannot be written by a comparison of float32 and then multiplied with it in one buffer.
    s_state = torch.empty_like(scratch) if x.dtype != dtype else None
    v: Tensor | None = v0
    for t in range(x.shape[0]):
        u, s = membranes[t % rows], spikes[t]
        if v is None:
            u.copy_(x[t])
        else:
            torch.mul(v, beta, out=u)
            u.add_(x[t])
        if s_state is None:
            _spike(u, threshold, inclusive, s)
        else:
            _spike(u, threshold, inclusive, s_state)
            s.copy_(s_state)
        v = _after_reset(u, s if s_state is None else s_state, quantum, reset, scratch)
    # An operator must not hand out one of its outputs twice: with no reset v is the last row of membranes.
    return spikes, membranes, v.clone() if v is not None else scratch


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
    g_v = torch.zeros_like(membranes[0]) if grad_v is None else grad_v.to(membranes.dtype, copy=True)
    s, v = torch.empty_like(g_v), torch.empty_like(g_v)
    g_beta, g_threshold, g_quantum = (
        torch.zeros_like(g_v) if need else g_v.new_empty(0)
        for need in (need_beta, need_threshold, need_quantum)
    )
    for t in range(membranes.shape[0] - 1, -1, -1):
        u = membranes[t]
        slope = curve.derivative(u - threshold)
        _spike(u, threshold, inclusive, s)
        g_s = grad_spikes[t]
        if not detach_reset and reset == "soft":
            g_s = g_s - g_v * quantum
        elif not detach_reset and reset == "hard":
            g_s = g_s - g_v * u
        through_spike = slope.mul_(g_s)
        if need_threshold:
            g_threshold.sub_(through_spike)
        if need_quantum and reset == "soft":
            g_quantum.addcmul_(g_v, s, value=-1)
        if reset == "hard":
            g_v.addcmul_(g_v, s, value=-1)
        g_u = g_v.add_(through_spike)
        if grad_membranes is not None:
            g_u.add_(grad_membranes[t])
        g_x[t].copy_(g_u)
        if need_beta:
            if t > 0:
                _spike(membranes[t - 1], threshold, inclusive, s)
                g_beta.addcmul_(g_u, _after_reset(membranes[t - 1], s, quantum, reset, v))
            elif v0 is not None:
                g_beta.addcmul_(g_u, v0)
        g_v = g_u.mul_(beta)

    def reduced(total: Tensor, like: Tensor, need: bool) -> Tensor:
        return total.sum_to_size(like.shape).to(like.dtype) if need else total

    return (
        g_x,
        g_v if needs[1] else g_v.new_empty(0),
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
    shapes = (membranes[0], beta, threshold, quantum)
    return (
        torch.empty_like(membranes, dtype=grad_spikes.dtype),
        *(
            torch.empty_like(a) if need else membranes.new_empty(0)
            for a, need in zip(shapes, needs[1:], strict=True)
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
