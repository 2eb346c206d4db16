"""The LIF modulated by astrocytes as one operator a layer: C or Triton kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from spikekit.ops.astrocyte import cpu, gpu, sequence
from spikekit.ops.gradients import differentiable_sequence, reduced
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator
from spikekit.ops.paths import forced_path, triton_serves


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
    return path.forward(x, v0, c0, sensed, parameters, glia, reset, inclusive, acts_on, own, keep)  # type: ignore[no-any-return]


@operator("astrocyte_backward")
def astrocyte_backward(
    grad_spikes: Tensor,
    grad_membranes: Tensor | None,
    grad_calcium: Tensor | None,
    grad_v: Tensor | None,
    grad_c: Tensor | None,
    membranes: Tensor,
    calcium: Tensor,
    activity: Tensor,
    x: Tensor | None,
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
    rest = (grad_calcium, grad_v, grad_c, membranes, calcium, activity, x, v0, c0, parameters, glia)
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
    (membranes, calcium, activity), parameters, needs = rest[4:7], rest[10:17], rest[-1]
    shapes = (membranes.shape[1:], calcium.shape[1:], activity.shape, *(p.shape for p in parameters))
    return (
        grad_spikes.new_empty(grad_spikes.shape),
        *(membranes.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needs[1:], strict=True)),
    )


# The activity, trace and output 3, has no gradient, and `sensed`, input 3, is in it. Only a gain reads the drive.
differentiable_sequence(
    "astrocyte",
    astrocyte_backward,
    tensors=11,
    traces=3,
    forward_only=1,
    constant_outputs=(3,),
    saved=(1, 2, *range(4, 11)),
    reads_drive=lambda *choices: choices[5] == "gain",
)
not_differentiable("astrocyte_backward")
