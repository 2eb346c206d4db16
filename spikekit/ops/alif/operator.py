"""The LIF with an adaptive threshold as one operator a layer: C kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.alif import cpu, sequence
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
from spikekit.ops.paths import forced_path


def _in_c(x: Tensor, surrogate: str) -> bool:
    return forced_path() == "auto" and x.device.type == "cpu" and cpu.supports(x.dtype, surrogate)


@operator("alif")
def alif_sequence(
    x: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rho: Tensor,
    step: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes, membranes and adaptations (empty unless `keep`), last v and last a; differentiable with `keep`."""
    forward = cpu.forward if _in_c(x, surrogate) else sequence.forward
    parameters = (beta, threshold, quantum, rho, step)
    spikes, membranes, adaptations, v, a = forward(x, v0, a0, parameters, reset, inclusive, keep)
    if membranes is None or adaptations is None:
        return spikes, v.new_empty(0), v.new_empty(0), v, a
    return spikes, membranes, adaptations, v, a


@operator("alif_backward")
def alif_backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_adaptations: Tensor | None,
    grad_v: Tensor | None,
    grad_a: Tensor | None,
    membranes: Tensor,
    adaptations: Tensor,
    v0: Tensor | None,
    a0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rho: Tensor,
    step: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, v0, a0, beta, threshold, quantum, rho, step; those not needed come back empty."""
    parameters = (beta, threshold, quantum, rho, step)
    rule = (reset, inclusive, detach_reset, surrogate, surrogate_numbers)
    inputs = (grad_v, grad_a, membranes, adaptations, v0, a0, parameters)
    if grad_membranes is None and grad_adaptations is None and _in_c(membranes, surrogate):
        grads = cpu.backward(grad_spikes, *inputs, *rule, any(needs[3:]))
    else:
        grads = sequence.backward(grad_spikes, grad_membranes, grad_adaptations, *inputs, *rule, any(needs[3:]))
    g_x, g_v0, g_a0, sums = grads
    empty = g_v0.new_empty(0)
    reduced = [
        total.sum_to_size(like.shape).to(like.dtype).contiguous() if need else empty.clone()
        for total, like, need in zip(sums or [empty] * 5, parameters, needs[3:], strict=True)
    ]
    states = [g if need else empty.clone() for g, need in zip((g_v0, g_a0), needs[1:3], strict=True)]
    return g_x, *states, *reduced  # type: ignore[return-value]


@fake("alif")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    dtype = state_dtype(x.dtype)
    kept = [torch.empty_like(x, dtype=dtype) if rest[-1] else x.new_empty(0, dtype=dtype) for _ in range(2)]
    return torch.empty_like(x), *kept, *(torch.empty_like(x[0], dtype=dtype) for _ in range(2))


@fake("alif_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    membranes, parameters, needs = rest[4], rest[8:13], rest[-1]
    return (
        torch.empty_like(membranes, dtype=grad_spikes.dtype),
        *(torch.empty_like(membranes[0]) if need else membranes.new_empty(0) for need in needs[1:3]),
        *(
            p.new_empty(p.shape) if need else membranes.new_empty(0)
            for p, need in zip(parameters, needs[3:], strict=True)
        ),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, *tensors = inputs[:8]
    ctx.save_for_backward(*output[1:3], *tensors)
    ctx.rule = inputs[8:-1]
    # Absent gradients stay absent: a recorded trace or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)
    ctx.spike_dtype = x.dtype


def _backward(ctx: Any, grad_spikes: Tensor | None, *rest: Tensor | None) -> Any:
    membranes, *tensors = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(membranes, dtype=ctx.spike_dtype)
    needs = [bool(need) for need in ctx.needs_input_grad[:8]]
    grads = alif_backward(grad_spikes, *rest, membranes, *tensors, *ctx.rule, needs)
    return *(g if need else None for g, need in zip(grads, needs, strict=True)), *(None for _ in ctx.rule), None


differentiable("alif", _backward, _setup_context)
not_differentiable("alif_backward")
