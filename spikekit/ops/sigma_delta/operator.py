"""The sigma-delta neuron as one operator a layer: C kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.gradients import differentiable_sequence, fake_gradients, fake_outputs, reduced
from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import fake, not_differentiable, operator
from spikekit.ops.paths import forced_path
from spikekit.ops.sigma_delta import cpu, sequence


def _in_c(x: Tensor) -> bool:
    return forced_path() == "auto" and x.device.type == "cpu" and cpu.supports(x.dtype)


@operator("sigma_delta")
def sigma_delta_sequence(
    x: Tensor,
    sigma0: Tensor | None,
    act0: Tensor | None,
    residue0: Tensor | None,
    threshold: Tensor,
    bias: Tensor,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Graded spikes, activations (empty unless `keep`), last sigma, act and residue; differentiable with `keep`."""
    forward = cpu.forward if _in_c(x) else sequence.forward
    return tuple(forward(x, (sigma0, act0, residue0), threshold, bias, activation, keep))  # type: ignore[return-value]


@operator("sigma_delta_backward")
def sigma_delta_backward(
    grad_spikes: Tensor,
    grad_activations: Tensor | None,
    grad_sigma: Tensor | None,
    grad_act: Tensor | None,
    activations: Tensor,
    bias: Tensor,
    activation: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, sigma0, act0, residue0 and bias; those not needed come back empty."""
    inputs = (grad_sigma, grad_act, activations, activation, needs[4])
    if grad_activations is None and _in_c(grad_spikes):
        (g_x, g_sigma0), sums = cpu.backward(grad_spikes, *inputs)
    else:
        (g_x, g_sigma0), sums = sequence.backward(grad_spikes, grad_activations, *inputs)
    empty = g_sigma0.new_empty(0)
    first = torch.empty_like(g_sigma0).copy_(grad_spikes[0]) if needs[2] or needs[3] else empty
    return (  # type: ignore[return-value]
        g_x,
        g_sigma0 if needs[1] else empty,
        first.neg() if needs[2] else empty.clone(),
        first if needs[3] else empty.clone(),
        *reduced(sums, (bias,), needs[4:]),
    )


@fake("sigma_delta")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return fake_outputs(x, state_dtype(x.dtype), 1, 3, rest[-1])


@fake("sigma_delta_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *_, activations, bias, _, needs = rest
    return fake_gradients(grad_spikes, activations, (bias,), needs)


# The threshold, input 4, and the last residue, output 4, have no gradient; of the tensors only the bias is read again.
differentiable_sequence(
    "sigma_delta",
    sigma_delta_backward,
    tensors=6,
    forward_only=1,
    constant_inputs=(4,),
    constant_outputs=(4,),
    saved=(5,),
)
not_differentiable("sigma_delta_backward")
