"""The leaky integrator over the whole sequence as one operator, with its gradient by hand.

g[t] = dL/dv[t] + beta·g[t+1],  dL/dx[t] = g[t],  dL/dv0 = beta·g[0],  dL/dbeta = Σ g[t]·v[t-1]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.layout import uninitialised_like
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator


@operator("li")
def li_sequence(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes of the sequence; differentiable."""
    out = uninitialised_like(x, state_dtype(x.dtype))
    before = v0
    for drive, v in zip(x.unbind(0), out.unbind(0), strict=True):
        if before is None:
            v.copy_(drive)
        else:
            torch.mul(before, beta, out=v)
            v.add_(drive)
        before = v
    return out


@operator("li_backward")
def li_backward(
    grad: Tensor, out: Tensor | None, v0: Tensor | None, beta: Tensor, dtype: torch.dtype, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, v0, beta; those not needed come back empty. out: the membranes, None where beta needs none."""
    g_x = uninitialised_like(grad, dtype)
    g = torch.zeros_like(grad[0])
    g_beta = g.new_empty(0) if out is None else torch.zeros_like(g)
    for t in range(len(grad) - 1, -1, -1):
        g.add_(grad[t])
        g_x[t].copy_(g)
        if out is not None:
            before = out[t - 1] if t > 0 else v0
            if before is not None:
                g_beta.addcmul_(g, before)
        g.mul_(beta)
    return (
        g_x,
        g if needs[1] else g.new_empty(0),
        g_beta if out is None else g_beta.sum_to_size(beta.shape).to(beta.dtype).contiguous(),
    )


@fake("li")
def _(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=state_dtype(x.dtype))


def make_differentiable(name: str, backward: Callable[..., Any]) -> None:
    """Give the operator `name`(x, v0, beta) the gradient that `name`_backward computes, and that its fake.

    backward: the operator `name`_backward.
    """

    @fake(f"{name}_backward")
    def _(
        grad: Tensor, out: Tensor | None, v0: Tensor | None, beta: Tensor, dtype: torch.dtype, needs: Sequence[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (
            torch.empty_like(grad, dtype=dtype),
            torch.empty_like(grad[0]) if needs[1] else grad.new_empty(0),
            grad.new_empty(0) if out is None else beta.new_empty(beta.shape),
        )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, v0, beta = inputs
        # The gradient of the drive needs nothing that was computed; only that of beta reads membranes.
        ctx.save_for_backward(output if ctx.needs_input_grad[2] else None, v0, beta)
        ctx.dtype = x.dtype

    def run_backward(ctx: Any, grad: Tensor) -> Any:
        out, v0, beta = ctx.saved_tensors
        needs = [bool(need) for need in ctx.needs_input_grad]
        grads = backward(grad, out, v0, beta, ctx.dtype, needs)
        return tuple(g if need else None for g, need in zip(grads, needs, strict=True))

    differentiable(name, run_backward, setup_context)


make_differentiable("li", li_backward)
not_differentiable("li_backward")
