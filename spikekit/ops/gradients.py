"""Operators over a whole sequence and their gradients: what they have in common, whatever the neuron.

Such an operator takes tensors (the drive x, the states before it, the parameters), then numbers and words, and returns
spikes, traces [T, ...] and the last states [...]. A second operator computes its gradients from the traces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.operators import differentiable


def wanted(*inputs: Tensor | None) -> bool:
    """Whether a gradient of one of the inputs may be asked for."""
    return torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in inputs)


def differentiable_sequence(
    name: str,
    backward: Callable[..., Sequence[Tensor]],
    *,
    tensors: int,
    traces: int = 1,
    forward_only: int = 0,
    constant_inputs: Collection[int] = (),
    constant_outputs: Collection[int] = (),
    saved: Sequence[int] | None = None,
    reads_drive: Callable[..., bool] | None = None,
) -> None:
    """Give the operator its gradient by another one.

    The operator: tensors, choices and `forward_only` arguments that the gradient does not depend on, to spikes,
    `traces`, last states. backward: gradients of the outputs, the traces, the `saved` tensors (all but x unless said
    otherwise), the choices, and for each tensor whether its gradient is needed. It returns these; what is not needed
    may be anything. Inputs and outputs that are constant, by their number, have no gradient and are left out.
    reads_drive: whether a gradient under these choices reads x; then x, else None, comes before the saved tensors.
    """
    moving = [index for index in range(tensors) if index not in constant_inputs]
    saved = range(1, tensors) if saved is None else saved

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.choices = inputs[tensors : len(inputs) - forward_only]
        drive = () if reads_drive is None else (inputs[0] if reads_drive(*ctx.choices) else None,)
        ctx.save_for_backward(*output[1 : 1 + traces], *drive, *(inputs[index] for index in saved))
        ctx.mark_non_differentiable(*(output[index] for index in constant_outputs))
        # Absent gradients stay absent: a recorded trace or a carried state is usually not used in the loss.
        ctx.set_materialize_grads(False)
        ctx.spike_dtype = inputs[0].dtype

    def gradients(ctx: Any, grad_spikes: Tensor | None, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors_saved = ctx.saved_tensors
        if grad_spikes is None:
            grad_spikes = torch.zeros_like(tensors_saved[0], dtype=ctx.spike_dtype)
        others = [grad for index, grad in enumerate(grads, 1) if index not in constant_outputs]
        needs = [bool(ctx.needs_input_grad[index]) for index in moving]
        found = backward(grad_spikes, *others, *tensors_saved, *ctx.choices, needs)
        result: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
        for index, grad, need in zip(moving, found, needs, strict=True):
            result[index] = grad if need else None
        return tuple(result)

    differentiable(name, gradients, setup_context)


def reduced(sums: Sequence[Tensor], parameters: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor]:
    """Gradients of parameters from those of every neuron; empty where not needed. sums: empty where none is."""
    return [
        sums[index].sum_to_size(like.shape).to(like.dtype).contiguous() if need else like.new_empty(0)
        for index, (like, need) in enumerate(zip(parameters, needs, strict=True))
    ]


def fake_outputs(x: Tensor, dtype: torch.dtype, traces: int, states: int, keep: bool) -> tuple[Tensor, ...]:
    """Spikes, then traces (empty unless `keep`) and last states in `dtype`, as the operators return them."""
    return (
        torch.empty_like(x),
        *(torch.empty_like(x, dtype=dtype) if keep else x.new_empty(0, dtype=dtype) for _ in range(traces)),
        *(torch.empty_like(x[0], dtype=dtype) for _ in range(states)),
    )


def fake_gradients(
    grad_spikes: Tensor, trace: Tensor, parameters: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Gradients of x, states and parameters as the backward operators return them; x's is always there."""
    states = needs[1 : len(needs) - len(parameters)]
    return (
        torch.empty_like(trace, dtype=grad_spikes.dtype),
        *(torch.empty_like(trace[0]) if need else trace.new_empty(0) for need in states),
        *(
            like.new_empty(like.shape if need else (0,))
            for like, need in zip(parameters, needs[1 + len(states) :], strict=True)
        ),
    )
