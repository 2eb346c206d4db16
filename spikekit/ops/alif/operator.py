"""The LIF with an adaptive threshold as one operator a layer: C kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from spikekit.ops.alif import cpu, sequence
from spikekit.ops.gradients import differentiable_sequence, fake_gradients, fake_outputs, reduced
from spikekit.ops.lif.cpu import serve
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator


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
    forward = cpu.forward if serve(cpu.KERNELS, x, surrogate) else sequence.forward
    return tuple(forward(x, v0, a0, (beta, threshold, quantum, rho, step), reset, inclusive, keep))  # type: ignore[return-value]


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
    learn = any(needs[3:])
    if grad_membranes is None and grad_adaptations is None and serve(cpu.KERNELS, membranes, surrogate):
        (g_x, *states), sums = cpu.backward(grad_spikes, *inputs, *rule, learn)
    else:
        (g_x, *states), sums = sequence.backward(grad_spikes, grad_membranes, grad_adaptations, *inputs, *rule, learn)
    states = [g if need else g.new_empty(0) for g, need in zip(states, needs[1:3], strict=True)]
    return g_x, *states, *reduced(sums, parameters, needs[3:])  # type: ignore[return-value]


@fake("alif")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_outputs(x, state_dtype(x.dtype), 2, 2, rest[-1])


@fake("alif_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_gradients(grad_spikes, rest[4], rest[8:13], rest[-1])


differentiable_sequence("alif", alif_backward, tensors=8, traces=2, forward_only=1)
not_differentiable("alif_backward")
