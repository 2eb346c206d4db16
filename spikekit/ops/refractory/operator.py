"""The LIF with a refractory period as one operator a layer: C kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
from spikekit.ops.paths import forced_path
from spikekit.ops.refractory import cpu, sequence


def _in_c(x: Tensor, surrogate: str) -> bool:
    return forced_path() == "auto" and x.device.type == "cpu" and cpu.supports(x.dtype, surrogate)


@operator("refractory")
def refractory_sequence(
    x: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    period: int,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes, membranes and countdowns (empty unless `keep`), last v and last r; differentiable with `keep`."""
    forward = cpu.forward if _in_c(x, surrogate) else sequence.forward
    spikes, membranes, countdowns, v, r = forward(x, v0, r0, (beta, threshold, quantum), period, reset, inclusive, keep)
    if membranes is None or countdowns is None:
        return spikes, v.new_empty(0), v.new_empty(0), v, r
    return spikes, membranes, countdowns, v, r


@operator("refractory_backward")
def refractory_backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    countdowns: Tensor,
    v0: Tensor | None,
    r0: Tensor | None,
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
    parameters = (beta, threshold, quantum)
    rule = (reset, inclusive, detach_reset, surrogate, surrogate_numbers, any(needs[2:]))
    inputs = (grad_v, membranes, countdowns, v0, r0, parameters)
    if grad_membranes is None and _in_c(membranes, surrogate):
        g_x, g_v0, sums = cpu.backward(grad_spikes, *inputs, *rule)
    else:
        g_x, g_v0, sums = sequence.backward(grad_spikes, grad_membranes, *inputs, *rule)
    empty = g_v0.new_empty(0)
    reduced = [
        total.sum_to_size(like.shape).to(like.dtype).contiguous() if need else empty.clone()
        for total, like, need in zip(sums or [empty] * 3, parameters, needs[2:], strict=True)
    ]
    return g_x, g_v0 if needs[1] else empty, *reduced  # type: ignore[return-value]


@fake("refractory")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    dtype = state_dtype(x.dtype)
    kept = [torch.empty_like(x, dtype=dtype) if rest[-1] else x.new_empty(0, dtype=dtype) for _ in range(2)]
    return torch.empty_like(x), *kept, *(torch.empty_like(x[0], dtype=dtype) for _ in range(2))


@fake("refractory_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    membranes, parameters, needs = rest[2], rest[6:9], rest[-1]
    return (
        torch.empty_like(membranes, dtype=grad_spikes.dtype),
        torch.empty_like(membranes[0]) if needs[1] else membranes.new_empty(0),
        *(
            p.new_empty(p.shape) if need else membranes.new_empty(0)
            for p, need in zip(parameters, needs[2:], strict=True)
        ),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, v0, r0, beta, threshold, quantum, _, *rule, _ = inputs
    ctx.save_for_backward(*output[1:3], v0, r0, beta, threshold, quantum)
    ctx.mark_non_differentiable(output[2], output[4])
    ctx.rule = rule
    # Absent gradients stay absent: a recorded membrane or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)
    ctx.spike_dtype = x.dtype


def _backward(ctx: Any, grad_spikes: Tensor | None, grad_membranes: Tensor | None, _: Any, grad_v: Any, __: Any) -> Any:
    membranes, *tensors = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(membranes, dtype=ctx.spike_dtype)
    x, v0, _, *parameters = ctx.needs_input_grad[:6]
    needs = [bool(need) for need in (x, v0, *parameters)]
    grads = refractory_backward(grad_spikes, grad_membranes, grad_v, membranes, *tensors, *ctx.rule, needs)
    g_x, g_v0, *rest = (g if need else None for g, need in zip(grads, needs, strict=True))
    # None for r0, the period and, behind the rule, whether traces are kept.
    return g_x, g_v0, None, *rest, None, *(None for _ in ctx.rule), None


differentiable("refractory", _backward, _setup_context)
not_differentiable("refractory_backward")
