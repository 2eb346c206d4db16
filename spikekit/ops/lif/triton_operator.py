"""The LIF operation by Triton kernels, as one operator a layer.

A GPU computes faster than it remembers: the membranes are not kept. The backward pass computes them again from the
drive, chunk by chunk, from the state at the start of each chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.layout import arranged, arranged_as_new, dense
from spikekit.ops.lif import gpu
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
from spikekit.ops.paths import triton_serves


def supports(device: str, dtype: torch.dtype, surrogate: str) -> bool:
    """Whether Triton kernels serve a drive of `dtype` on `device`; tests them at the first call."""
    return triton_serves(device) and gpu.supports(dtype, surrogate)


# What torch.compiler.assume_constant_result does, which would import all of torch._dynamo here and now: a second.
supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


@operator("lif_fused")
def lif_fused(
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
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, checkpoints and last v of the sequence; with a chunk of 0, for inference, checkpoints are empty."""
    drive = dense(x)
    start = arranged(v0, drive[0])
    parameters = (beta, threshold, quantum)
    spikes, kept, v = gpu.forward(drive, start, parameters, reset, inclusive, chunk or None)
    kept = x.new_empty(0, dtype=v.dtype) if kept is None else kept
    return arranged_as_new(spikes, x), kept, arranged_as_new(v, x[0])


@operator("lif_fused_backward")
def lif_fused_backward(
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    x: Tensor,
    checkpoints: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    chunk: int,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, v0, beta, threshold, quantum; those not needed come back empty."""
    drive = dense(x)
    g_x, g_v0, sums = gpu.backward(
        arranged(grad_spikes, drive),
        arranged(grad_v, drive[0]),
        drive,
        checkpoints,
        arranged(v0, drive[0]),
        (beta, threshold, quantum),
        reset,
        inclusive,
        detach_reset,
        surrogate,
        surrogate_numbers,
        chunk,
        any(needs[2:]),
    )
    empty = g_v0.new_empty(0)
    reduced = [
        total.sum_to_size(like.shape).to(like).contiguous() if need else empty.clone()
        for total, like, need in zip(sums or [empty] * 3, (beta, threshold, quantum), needs[2:], strict=True)
    ]
    return (
        arranged_as_new(g_x, x),
        arranged_as_new(g_v0, x[0]) if needs[1] else empty,
        *reduced,  # type: ignore[return-value]
    )


@fake("lif_fused")
def _(x: Tensor, v0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = state_dtype(x.dtype)
    chunk = rest[-1]
    shape = (-(-x.shape[0] // chunk) - 1, x[0].numel()) if chunk else (0,)
    return torch.empty_like(x), x.new_empty(shape, dtype=dtype), torch.empty_like(x[0], dtype=dtype)


@fake("lif_fused_backward")
def _(
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    x: Tensor,
    checkpoints: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    needs = rest[-1]
    empty = checkpoints.new_empty(0)
    return (
        torch.empty_like(x),
        torch.empty_like(x[0], dtype=checkpoints.dtype) if needs[1] else empty,
        *(
            a.new_empty(a.shape) if need else checkpoints.new_empty(0)
            for a, need in zip((beta, threshold, quantum), needs[2:], strict=True)
        ),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, v0, beta, threshold, quantum, *rule = inputs
    ctx.save_for_backward(x, output[1], v0, beta, threshold, quantum)
    ctx.mark_non_differentiable(output[1])
    ctx.rule = rule
    # Absent gradients stay absent: a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_spikes: Tensor | None, _: None, grad_v: Tensor | None) -> Any:
    x, checkpoints, v0, beta, threshold, quantum = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:5]]
    grads = lif_fused_backward(grad_spikes, grad_v, x, checkpoints, v0, beta, threshold, quantum, *ctx.rule, needs)
    return (
        *(grad if need else None for grad, need in zip(grads, needs, strict=True)),
        *(None for _ in ctx.rule),
    )


differentiable("lif_fused", _backward, _setup_context)
not_differentiable("lif_fused_backward")
