"""The convolution as an operator that looks at its input: events where they pay, else the dense convolution.

A weight or gradient with a NaN or an Inf in it makes NaN of zeros as well: such convolutions are dense. The gradient of
the input is always dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.conv import cpu
from spikekit.ops.conv.choice import events_pay, input_gradient_channels_last
from spikekit.ops.conv.reference import conv2d_reference
from spikekit.ops.operators import differentiable, fake, operator


@operator("conv2d")
def conv2d_events(x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> Tensor:
    """Y [N, O, H', W'], channels last, of x [N, C, H, W], weight [O, C, h, w] and bias [O], on the CPU.

    All float32 or all float64. steps: stride, padding and dilation, each in y and x.
    """
    x = cpu.dense(x)
    if events_pay(cpu.density(x), x.shape, weight.shape, steps, back=False):
        found = cpu.forward(x, weight, bias, steps)
        if found is not None:
            return found
    dense = conv2d_reference(x, weight, bias, steps[:2], steps[2:4], steps[4:])
    images, outer, height, width = dense.shape
    out = native.empty((images, height, width, outer), x.dtype).permute(0, 3, 1, 2)
    return dense if dense.stride() == out.stride() else out.copy_(dense)


@operator("conv2d_backward")
def conv2d_events_backward(
    grad: Tensor, x: Tensor, weight: Tensor, steps: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; those not needed come back empty."""
    images, left = cpu.dense(x), [needs[0], needs[1], False]
    g_weight = None
    if needs[1] and events_pay(cpu.density(images), x.shape, weight.shape, steps, back=True):
        g_weight = cpu.weight_gradient(grad, images, weight, steps)
        left[1] = g_weight is None
    if left[1]:
        images = images.contiguous(memory_format=torch.channels_last)
    elif (
        left[0]
        and grad.is_contiguous(memory_format=torch.channels_last)
        and input_gradient_channels_last(weight.shape, steps)
    ):
        # The gradient of x reads no number of x, but lies in memory as x does: this one is never filled.
        images = torch.empty_like(x, memory_format=torch.channels_last)
    dense: Any = _dense_gradients(grad, images, weight, steps, left) if any(left) else (None, None)
    return (
        _laid_out(dense[0], x) if needs[0] else x.new_empty(0),
        _laid_out(dense[1] if g_weight is None else g_weight, weight) if needs[1] else x.new_empty(0),
        # torch's own would compute the gradient of the weight on the way.
        grad.sum((0, 2, 3)) if needs[2] else x.new_empty(0),
    )


def _dense_gradients(grad: Tensor, x: Tensor, weight: Tensor, steps: Sequence[int], needs: Sequence[bool]) -> Any:
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], steps[:2], steps[2:4], steps[4:], False, [0, 0], 1, needs
    )


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """`value` with the strides of `torch.empty_like(like)`, as the fake kernel promises them."""
    strides = torch.empty_like(like, device="meta").stride()
    return value if value.stride() == strides else native.empty_like(like).copy_(value)


@fake("conv2d")
def _(x: Tensor, weight: Tensor, bias: Tensor | None, steps: Sequence[int]) -> Tensor:
    height, width = (cpu.out_size(x.shape[axis + 2], weight.shape[axis + 2], *steps[axis::2]) for axis in (0, 1))
    return x.new_empty(x.shape[0], height, width, weight.shape[0]).permute(0, 3, 1, 2)


@fake("conv2d_backward")
def _(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    needs = rest[-1]
    return (
        torch.empty_like(x) if needs[0] else x.new_empty(0),
        torch.empty_like(weight) if needs[1] else x.new_empty(0),
        x.new_empty(weight.shape[0]) if needs[2] else x.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, steps = inputs
    ctx.save_for_backward(x, weight)
    ctx.steps = steps


def _backward(ctx: Any, grad: Tensor) -> Any:
    x, weight = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad[:3]]
    grads = conv2d_events_backward(grad, x, weight, ctx.steps, needs)
    return (*(g if need else None for g, need in zip(grads, needs, strict=True)), None)


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, x, weight, ctx.steps, ctx.needs = inputs
    ctx.save_for_backward(grad, x, weight)


def _second(ctx: Any, *upstream: Tensor) -> Any:
    """The derivative of the gradients by torch's own operators: for penalties on gradients."""
    create_graph = torch.is_grad_enabled()
    kept = [i for i, need in enumerate(ctx.needs) if need]
    with torch.enable_grad():
        # Leaves of a graph of its own: grad depends on x and weight, and that way is the outer graph's to go.
        leaves = [a.view_as(a) if create_graph else a.detach().requires_grad_() for a in ctx.saved_tensors]
        wanted = [a for a, need in zip(leaves, ctx.needs_input_grad, strict=False) if need]
        grad, x, weight = leaves
        outputs = _dense_gradients(grad, x, weight, ctx.steps, ctx.needs)
        found = iter(
            torch.autograd.grad(
                [outputs[i] for i in kept],
                wanted,
                [upstream[i] for i in kept],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return (*(next(found) if need else None for need in ctx.needs_input_grad[:3]), None, None)


differentiable("conv2d", _backward, _setup_context)
differentiable("conv2d_backward", _second, _setup_second)
