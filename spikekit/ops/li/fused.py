"""The leaky integrator as a fused kernel: one operator a layer, C on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.ops.layout import arranged, arranged_as_new, dense, parameters_of
from spikekit.ops.li import cpu
from spikekit.ops.li.sequence import make_differentiable
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator


def supports(device: str, dtype: torch.dtype) -> bool:
    """Whether a fused kernel serves a drive of `dtype` on `device`; compiles the kernels at the first call."""
    return device == "cpu" and cpu.supports(dtype)


# See spikekit.ops.lif.fused.
supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


@operator("li_fused")
def li_fused(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes of the sequence; differentiable."""
    drive = dense(x)
    start = None if v0 is None else arranged(v0, drive[0])
    return arranged_as_new(cpu.forward(drive, start, *parameters_of(drive, beta)), x)


@operator("li_fused_backward")
def li_fused_backward(
    grad: Tensor, out: Tensor | None, v0: Tensor | None, beta: Tensor, dtype: torch.dtype, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, v0, beta; those not needed come back empty. out: the membranes, None where beta needs none."""
    upstream = dense(grad)
    g_x, g_v0, total = cpu.backward(
        upstream,
        None if out is None else arranged(out, upstream),
        None if v0 is None else arranged(v0, upstream[0]),
        *parameters_of(upstream, beta),
    )
    empty = g_v0.new_empty(0)
    return (
        arranged_as_new(g_x.to(dtype), grad),
        arranged_as_new(g_v0, grad[0]) if needs[1] else empty,
        empty.clone() if total is None else total.sum_to_size(beta.shape).to(beta.dtype).contiguous(),
    )


@fake("li_fused")
def _(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=state_dtype(x.dtype))


make_differentiable("li_fused")
not_differentiable("li_fused_backward")
