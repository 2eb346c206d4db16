"""The LIF operation as one operator a layer, by the C kernels where they serve, else in plain torch.

Both save the membranes u for the backward pass and nothing else: 4 bytes a neuron and step in float32. To compute them
again from the drive was measured: as fast while tensors fit the cache, 12 % slower beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif import cpu, sequence
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
from spikekit.ops.paths import forced_path
from spikekit.surrogate import ATan

# The forward pass does not need the surrogate: any that the kernels know will do.
_ANY_CURVE = ATan().encode()[0]


def _in_c(x: Tensor, surrogate: str) -> bool:
    return forced_path() == "auto" and x.device.type == "cpu" and cpu.supports(x.dtype, surrogate)


@operator("lif")
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
    if _in_c(x, surrogate):
        return cpu.forward(x, v0, (beta, threshold, quantum), reset, inclusive, keep=True)
    return sequence.forward(x, v0, beta, threshold, quantum, reset, inclusive, keep_membranes=True)


@operator("lif_inference")
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
    if _in_c(x, _ANY_CURVE):
        spikes, _, v = cpu.forward(x, v0, (beta, threshold, quantum), reset, inclusive, keep=False)
    else:
        spikes, _, v = sequence.forward(x, v0, beta, threshold, quantum, reset, inclusive, keep_membranes=False)
    return spikes, v


@operator("lif_backward")
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
    rule = (reset, inclusive, detach_reset, surrogate, surrogate_numbers)
    if grad_membranes is not None or not _in_c(membranes, surrogate):
        return sequence.backward(
            grad_spikes, grad_membranes, grad_v, membranes, v0, beta, threshold, quantum, *rule, needs
        )
    parameters = (beta, threshold, quantum)
    g_x, g_v0, sums = cpu.backward(grad_spikes, grad_v, membranes, v0, parameters, *rule, any(needs[2:]))
    empty = g_v0.new_empty(0)
    reduced = [
        total.sum_to_size(like.shape).to(like.dtype).contiguous() if need else empty.clone()
        for total, like, need in zip(sums or [empty] * 3, parameters, needs[2:], strict=True)
    ]
    return g_x, g_v0 if needs[1] else empty, *reduced  # type: ignore[return-value]


@fake("lif")
def _(x: Tensor, v0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    dtype = state_dtype(x.dtype)
    return torch.empty_like(x), torch.empty_like(x, dtype=dtype), torch.empty_like(x[0], dtype=dtype)


@fake("lif_inference")
def _(x: Tensor, v0: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x[0], dtype=state_dtype(x.dtype))


@fake("lif_backward")
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


def _backward(ctx: Any, grad_spikes: Tensor | None, grad_membranes: Tensor | None, grad_v: Tensor | None) -> Any:
    membranes, v0, beta, threshold, quantum = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(membranes, dtype=ctx.spike_dtype)
    needs = [bool(need) for need in ctx.needs_input_grad[:5]]
    grads = lif_backward(grad_spikes, grad_membranes, grad_v, membranes, v0, beta, threshold, quantum, *ctx.rule, needs)
    return (
        *(grad if need else None for grad, need in zip(grads, needs, strict=True)),
        *(None for _ in ctx.rule),
    )


differentiable("lif", _backward, _setup_context)
not_differentiable("lif_inference")
not_differentiable("lif_backward")
