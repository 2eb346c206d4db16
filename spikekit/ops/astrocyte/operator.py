"""The LIF modulated by astrocytes as one operator a layer: C or Triton kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.astrocyte import cpu, gpu, sequence
from spikekit.ops.gradients import reduced
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
from spikekit.ops.paths import forced_path, triton_serves

_INPUTS = 11


def _kernels(x: Tensor, domains: int, surrogate: str) -> ModuleType | None:
    """The module whose kernels serve a sequence like x, in the order of the paths."""
    path = forced_path()
    if path in ("auto", "triton") and triton_serves(x.device.type) and gpu.supports(x, domains, surrogate):
        return gpu
    return cpu if path == "auto" and x.device.type == "cpu" and cpu.supports(x.dtype, surrogate) else None


@operator("astrocyte")
def astrocyte_sequence(
    x: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    sensed: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    decay: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    acts_on: str,
    own: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes, membranes, calcium and activity (empty unless `keep`), last v and last c; differentiable with `keep`."""
    parameters, glia = (beta, threshold, quantum), (decay, weight, bias, strength)
    path = _kernels(x, len(decay), surrogate) or sequence
    spikes, *traces, v, c = path.forward(x, v0, c0, sensed, parameters, glia, reset, inclusive, acts_on, own, keep)
    return spikes, *(v.new_empty(0) if kept is None else kept for kept in traces), v, c  # type: ignore[return-value]


@operator("astrocyte_backward")
def astrocyte_backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_calcium: Tensor | None,
    grad_v: Tensor | None,
    grad_c: Tensor | None,
    x: Tensor | None,
    membranes: Tensor,
    calcium: Tensor,
    activity: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    decay: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    acts_on: str,
    own: float,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, v0, c0, sensed, the parameters and the glia; those not needed come back empty."""
    parameters, glia = (beta, threshold, quantum), (decay, weight, bias, strength)
    rest = (grad_calcium, grad_v, grad_c, x, membranes, calcium, activity, v0, c0, parameters, glia)
    rule = (reset, inclusive, detach_reset, surrogate, surrogate_numbers, acts_on, own, any(needs[4:7]))
    kernels = None if grad_membranes is not None else _kernels(membranes, len(decay), surrogate)
    if kernels is None:
        found = sequence.backward(grad_spikes, grad_membranes, *rest, *rule)
    else:
        found = kernels.backward(grad_spikes, *rest, *rule)
    g_x, *states, sums, of_glia = found
    others = [
        g if need else membranes.new_empty(0)
        for g, need in zip((*states, *of_glia), (*needs[1:4], *needs[7:]), strict=True)
    ]
    return g_x, *others[:3], *reduced(sums, parameters, needs[4:7]), *others[3:]  # type: ignore[return-value]


@fake("astrocyte")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    decay, keep = rest[6], rest[-1]
    dtype = state_dtype(x.dtype)
    states = (x.shape[1:], (x.shape[1], *decay.shape))
    shapes = [(x.shape[0], *shape) if keep else (0,) for shape in (*states, states[1][:2])]
    return x.new_empty(x.shape), *(x.new_empty(shape, dtype=dtype) for shape in (*shapes, *states))


@fake("astrocyte_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    membranes, calcium, activity, parameters, glia, needs = (
        rest[5],
        rest[6],
        rest[7],
        rest[10:13],
        rest[13:17],
        rest[-1],
    )
    shapes = (membranes.shape[1:], calcium.shape[1:], activity.shape, *(p.shape for p in (*parameters, *glia)))
    return (
        grad_spikes.new_empty(grad_spikes.shape),
        *(membranes.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needs[1:], strict=True)),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, v0, c0, _, *others = inputs[:_INPUTS]
    ctx.rule = inputs[_INPUTS:-1]
    gain = ctx.rule[5] == "gain"
    ctx.save_for_backward(x if gain else None, *output[1:4], v0, c0, *others)
    ctx.mark_non_differentiable(output[3])
    # Absent gradients stay absent: a recorded trace or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)
    ctx.spike_dtype = x.dtype


def _backward(ctx: Any, grad_spikes: Tensor | None, *rest: Tensor | None) -> Any:
    grad_membranes, grad_calcium, _, grad_v, grad_c = rest
    x, membranes, *tensors = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(membranes, dtype=ctx.spike_dtype)
    needs = [bool(need) for need in ctx.needs_input_grad[:_INPUTS]]
    grads = astrocyte_backward(
        grad_spikes, grad_membranes, grad_calcium, grad_v, grad_c, x, membranes, *tensors, *ctx.rule, needs
    )
    return *(g if need else None for g, need in zip(grads, needs, strict=True)), *(None for _ in ctx.rule), None


differentiable("astrocyte", _backward, _setup_context)
not_differentiable("astrocyte_backward")
