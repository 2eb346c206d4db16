"""The leaky integrator as a fused kernel: one operator a layer, C on the CPU, Triton on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from spikekit.ops.layout import arranged, arranged_as_new, dense
from spikekit.ops.li import cpu, gpu
from spikekit.ops.li.sequence import make_differentiable
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator
from spikekit.ops.paths import triton_serves


def supports(device: str, dtype: torch.dtype) -> bool:
    """Whether a fused kernel serves a drive of `dtype` on `device`; compiles the kernels at the first call."""
    return device in ("cpu", "cuda") and _kernels(device).supports(dtype)


# See spikekit.ops.lif.triton_operator.
supports._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _kernels(device: str) -> ModuleType:
    """The module with `forward` and `backward` for tensors of a device."""
    return gpu if triton_serves(device) else cpu


@operator("li_fused")
def li_fused(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes of the sequence; differentiable."""
    drive = dense(x)
    start = arranged(v0, drive[0])
    return arranged_as_new(_kernels(x.device.type).forward(drive, start, beta), x)


@operator("li_fused_backward")
def li_fused_backward(
    grad: Tensor, out: Tensor | None, v0: Tensor | None, beta: Tensor, dtype: torch.dtype, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, v0, beta; those not needed come back empty. out: the membranes, None where beta needs none."""
    upstream = dense(grad)
    g_x, g_v0, total = _kernels(grad.device.type).backward(
        upstream,
        arranged(out, upstream),
        arranged(v0, upstream[0]),
        beta,
        dtype,
    )
    empty = g_v0.new_empty(0)
    return (
        arranged_as_new(g_x, grad),
        arranged_as_new(g_v0, grad[0]) if needs[1] else empty,
        empty.clone() if total is None else total.sum_to_size(beta.shape).to(beta).contiguous(),
    )


@fake("li_fused")
def _(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    return torch.empty_like(x, dtype=state_dtype(x.dtype))


make_differentiable("li_fused", li_fused_backward)
not_differentiable("li_fused_backward")
