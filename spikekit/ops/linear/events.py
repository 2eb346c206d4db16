"""The linear layer as an operator that looks at its operands: events where they pay, else the dense product.

y = x·Wᵀ + b, g_x = g·W, g_W = gᵀ·x, g_b = Σ g. Each product leaves out the zeros of x, or of g, where these are many:
g is sparse behind a neuron whose surrogate is zero away from the threshold. A matrix with a NaN or an Inf in it makes
NaN of the zeros as well: such products are dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.linear import cpu
from spikekit.ops.linear.choice import events_pay
from spikekit.ops.operators import differentiable, fake, operator


@operator("linear")
def linear_events(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Y [R, N] of x [R, K], weight [N, K] and bias [N]; all float32 or all float64, on the CPU."""
    return _product(x, weight.t(), bias)


@operator("linear_backward")
def linear_events_backward(
    grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; those not needed come back empty."""
    return (
        _product(grad, weight, None) if needs[0] else grad.new_empty(0),
        outer(x, grad) if needs[1] else grad.new_empty(0),
        grad.sum(0) if needs[2] else grad.new_empty(0),
    )


def _product(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    x = x.contiguous()
    if events_pay(cpu.density(x), len(x), len(matrix), matrix.shape[1]):
        found = cpu.product(x, matrix, None if bias is None else bias.contiguous())
        if found is not None:
            return found
    out = native.empty((len(x), matrix.shape[1]), x.dtype)
    return torch.mm(x, matrix, out=out) if bias is None else torch.addmm(bias, x, matrix, out=out)


def outer(x: Tensor, grad: Tensor) -> Tensor:
    """gradᵀ·x [N, K] of x [R, K] and grad [R, N], R > 0: by the elements of x that are not zero where these are few."""
    x = x.contiguous()
    if events_pay(cpu.density(x), len(x), x.shape[1], grad.shape[1], by_column=True):
        found = cpu.outer(x, grad)
        if found is not None:
            return found
    return torch.mm(grad.t(), x, out=native.empty((grad.shape[1], x.shape[1]), x.dtype))


@fake("linear")
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@fake("linear_backward")
def _(grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        grad.new_empty(x.shape if needs[0] else (0,)),
        grad.new_empty(weight.shape if needs[1] else (0,)),
        grad.new_empty(weight.shape[:1] if needs[2] else (0,)),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> Any:
    x, weight = ctx.saved_tensors
    needs = [bool(need) for need in ctx.needs_input_grad]
    grads = linear_events_backward(grad, x, weight, needs)
    return tuple(g if need else None for g, need in zip(grads, needs, strict=True))


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, x, weight, needs = inputs
    ctx.save_for_backward(grad, x, weight)
    ctx.needs = needs


def _second(ctx: Any, grad_x: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> Any:
    """The derivative of the gradients, which are linear in each of grad, x and weight: for penalties on gradients."""
    grad, x, weight = ctx.saved_tensors
    wanted: list[Any] = [0, 0, 0]
    if ctx.needs[0]:
        wanted[0] += grad_x @ weight.t()
        wanted[2] += grad.t() @ grad_x
    if ctx.needs[1]:
        wanted[0] += x @ grad_weight.t()
        wanted[1] += grad @ grad_weight
    if ctx.needs[2]:
        wanted[0] += grad_bias
    found = (g if need and torch.is_tensor(g) else None for g, need in zip(wanted, ctx.needs_input_grad, strict=False))
    return (*found, None)


differentiable("linear", _backward, _setup_context)
differentiable("linear_backward", _second, _setup_second)
