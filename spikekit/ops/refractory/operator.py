"""The LIF with a refractory period as one operator a layer: C kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from spikekit.ops.gradients import differentiable_sequence, fake_gradients, fake_outputs, reduced
from spikekit.ops.lif.cpu import serve
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator
from spikekit.ops.refractory import cpu, sequence


@operator("refractory")
def refractory_sequence(
    x: Tensor,
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
    period: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Spikes, membranes and countdowns (empty unless `keep`), last v and last r; differentiable with `keep`."""
    forward = cpu.forward if serve(cpu.KERNELS, x, surrogate) else sequence.forward
    return tuple(forward(x, v0, r0, (beta, threshold, quantum), reset, inclusive, period, keep))  # type: ignore[return-value]


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
    if grad_membranes is None and serve(cpu.KERNELS, membranes, surrogate):
        (g_x, g_v0), sums = cpu.backward(grad_spikes, *inputs, *rule)
    else:
        (g_x, g_v0), sums = sequence.backward(grad_spikes, grad_membranes, *inputs, *rule)
    return g_x, g_v0 if needs[1] else g_v0.new_empty(0), *reduced(sums, parameters, needs[2:])  # type: ignore[return-value]


@fake("refractory")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_outputs(x, state_dtype(x.dtype), 2, 2, rest[-1])


@fake("refractory_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_gradients(grad_spikes, rest[2], rest[6:9], rest[-1])


# The countdown, as input 2 and as outputs 2 and 4, has no gradient.
differentiable_sequence(
    "refractory",
    refractory_backward,
    tensors=6,
    traces=2,
    forward_only=2,
    constant_inputs=(2,),
    constant_outputs=(2, 4),
)
not_differentiable("refractory_backward")
