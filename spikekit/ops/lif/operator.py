"""The LIF operation as one operator a layer, by the C kernels where they serve, else in plain torch.

Both save the membranes u for the backward pass and nothing else: 4 bytes a neuron and step in float32. To compute them
again from the drive was measured: as fast while tensors fit the cache, 12 % slower beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from spikekit.ops.gradients import differentiable_sequence, fake_gradients, fake_outputs, reduced
from spikekit.ops.lif import cpu, sequence
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator
from spikekit.surrogate import ATan

# The forward pass does not need the surrogate: any that the kernels know will do.
_ANY_CURVE = ATan().encode()[0]


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
    if cpu.serve(cpu.KERNELS, x, surrogate):
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
    if cpu.serve(cpu.KERNELS, x, _ANY_CURVE):
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
    parameters = (beta, threshold, quantum)
    if grad_membranes is not None or not cpu.serve(cpu.KERNELS, membranes, surrogate):
        return sequence.backward(
            grad_spikes, grad_membranes, grad_v, membranes, v0, beta, threshold, quantum, *rule, needs
        )
    g_x, g_v0, sums = cpu.backward(grad_spikes, grad_v, membranes, v0, parameters, *rule, any(needs[2:]))
    return g_x, g_v0 if needs[1] else g_v0.new_empty(0), *reduced(sums, parameters, needs[2:])  # type: ignore[return-value]


@fake("lif")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_outputs(x, state_dtype(x.dtype), 1, 1, True)


@fake("lif_inference")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_outputs(x, state_dtype(x.dtype), 0, 1, False)


@fake("lif_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_gradients(grad_spikes, rest[2], rest[4:7], rest[-1])


differentiable_sequence("lif", lif_backward, tensors=5)
not_differentiable("lif_inference")
not_differentiable("lif_backward")
