"""The MPBN operation as one operator a layer, over kernels in C or Triton or, in plain torch, the loop over rows.

Both save the membranes and the statistics of the steps for the backward pass, and not the drive. Running statistics are
the caller's to update: the operator changes nothing, it returns what they are afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.mpbn import cpu, gpu, sequence
from spikekit.ops.mpbn.layer import Layer
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
from spikekit.ops.paths import triton_serves


def _kernels(fused: bool, device: str) -> ModuleType:
    """The module with `forward` and `backward`."""
    if not fused:
        return sequence
    return gpu if triton_serves(device) else cpu


@operator("mpbn")
def mpbn_operator(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    sync: bool,
    keep: bool,
    fused: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `reference.Outcome`; `keep` the membranes for a gradient. fused: by kernels in C or Triton."""
    layer = Layer(
        beta, threshold, quantum, weight, bias, mean, var, training, momentum, eps,
        reset, inclusive, detach_reset, surrogate, surrogate_numbers, sync,
    )  # fmt: skip
    return tuple(_kernels(fused, x.device.type).forward(x, v0, layer, keep))  # type: ignore[return-value]


@operator("mpbn_backward")
def mpbn_backward(
    grad_spikes: Tensor | None,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    surrogate_numbers: Sequence[float],
    sync: bool,
    fused: bool,
    dtype: torch.dtype,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, in `dtype`, v0, beta, threshold, quantum, weight, bias; those not needed come back empty."""
    layer = Layer(
        beta, threshold, quantum, weight, bias, mean, var, training, momentum, eps,
        reset, inclusive, detach_reset, surrogate, surrogate_numbers, sync,
    )  # fmt: skip
    kernels, learn = _kernels(fused, membranes.device.type), any(needs[2:5])
    g_x, g_v0, g_weight, g_bias, *sums = kernels.backward(
        grad_spikes, grad_membranes, grad_v, membranes, v0, layer, learn
    )
    empty = membranes.new_empty(0)
    learned = (*(sums or [empty] * 3), g_weight, g_bias)
    reduced = [
        total.sum_to_size(like.shape).to(like).contiguous() if need else empty.clone()
        for total, like, need in zip(learned, (beta, threshold, quantum, weight, bias), needs[2:], strict=True)
    ]
    return g_x.to(dtype), g_v0 if needs[1] else empty, *reduced  # type: ignore[return-value]


@fake("mpbn")
def _(x: Tensor, v0: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    *arguments, keep, _ = rest
    layer, dtype = Layer.of(*arguments), state_dtype(x.dtype)
    shape = (x.shape[0], *layer.weight.shape) if layer.training else (0,)
    return (
        torch.empty_like(x),
        torch.empty_like(x, dtype=dtype) if keep else x.new_empty(0, dtype=dtype),
        torch.empty_like(x[0], dtype=dtype),
        *(x.new_empty(shape, dtype=dtype) for _ in range(2)),
        *(x.new_empty(shape[1:] if layer.training else shape, dtype=dtype) for _ in range(2)),
    )


@fake("mpbn_backward")
def _(
    grad_spikes: Tensor | None,
    grad_membranes: Tensor | None,
    grad_v: Tensor | None,
    membranes: Tensor,
    v0: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, ...]:
    *arguments, _, dtype, needs = rest
    layer = Layer.of(*arguments)
    return (
        torch.empty_like(membranes, dtype=dtype),
        torch.empty_like(membranes[0]) if needs[1] else membranes.new_empty(0),
        *(
            a.new_empty(a.shape) if need else membranes.new_empty(0)
            for a, need in zip((*layer.neuron, layer.weight, layer.bias), needs[2:], strict=True)
        ),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, v0, *arguments, _, fused = inputs
    layer = Layer.of(*arguments)
    statistics = output[3:5] if layer.training else (layer.mean, layer.var)
    ctx.save_for_backward(output[1], v0, *arguments[:5], *statistics)
    ctx.mark_non_differentiable(*output[3:])
    ctx.rule = (*arguments[7:], fused, x.dtype)
    # Absent gradients stay absent: a recorded membrane or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, grad_spikes: Tensor | None, grad_membranes: Tensor | None, grad_v: Tensor | None, *_: Any
) -> Any:
    needs = [bool(need) for need in ctx.needs_input_grad[:7]]
    grads = mpbn_backward(grad_spikes, grad_membranes, grad_v, *ctx.saved_tensors, *ctx.rule, needs)
    # The statistics that are given, the numbers and the flags have none.
    return *(grad if need else None for grad, need in zip(grads, needs, strict=True)), *([None] * 13)


differentiable("mpbn", _backward, _setup_context)
not_differentiable("mpbn_backward")
