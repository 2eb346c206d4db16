"""The sigma-delta neuron as one operator a layer: C kernels where they serve, else plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype
from spikekit.ops.operators import differentiable, fake, not_differentiable, operator
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
    return forward(x, (sigma0, act0, residue0), threshold, bias, activation, keep)


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
        g_x, g_sigma0, g_bias = cpu.backward(grad_spikes, *inputs)
    else:
        g_x, g_sigma0, g_bias = sequence.backward(grad_spikes, grad_activations, *inputs)
    empty = g_sigma0.new_empty(0)
    first = torch.empty_like(activations[0]).copy_(grad_spikes[0]) if needs[2] or needs[3] else empty
    return (
        g_x,
        g_sigma0 if needs[1] else empty,
        first.neg() if needs[2] else empty.clone(),
        first if needs[3] else empty.clone(),
        empty.clone() if g_bias is None else g_bias.sum_to_size(bias.shape).to(bias.dtype).contiguous(),
    )


@fake("sigma_delta")
def _(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    dtype = state_dtype(x.dtype)
    activations = torch.empty_like(x, dtype=dtype) if rest[-1] else x.new_empty(0, dtype=dtype)
    return torch.empty_like(x), activations, *(torch.empty_like(x[0], dtype=dtype) for _ in range(3))


@fake("sigma_delta_backward")
def _(grad_spikes: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *_, activations, bias, _, needs = rest
    return (
        torch.empty_like(activations, dtype=grad_spikes.dtype),
        *(torch.empty_like(activations[0]) if need else activations.new_empty(0) for need in needs[1:4]),
        bias.new_empty(bias.shape) if needs[4] else activations.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, _, _, bias, ctx.activation, _ = inputs
    ctx.save_for_backward(output[1], bias)
    ctx.mark_non_differentiable(output[4])
    # Absent gradients stay absent: a recorded trace or a carried state is usually not used in the loss.
    ctx.set_materialize_grads(False)
    ctx.spike_dtype = x.dtype


def _backward(ctx: Any, grad_spikes: Tensor | None, *rest: Tensor | None) -> Any:
    activations, bias = ctx.saved_tensors
    if grad_spikes is None:
        grad_spikes = torch.zeros_like(activations, dtype=ctx.spike_dtype)
    x, sigma0, act0, residue0, _, need_bias, *_ = ctx.needs_input_grad
    needs = [bool(need) for need in (x, sigma0, act0, residue0, need_bias)]
    grads = sigma_delta_backward(grad_spikes, *rest[:3], activations, bias, ctx.activation, needs)
    *states, g_bias = (grad if need else None for grad, need in zip(grads, needs, strict=True))
    # None for the threshold and, behind the bias, the activation and whether traces are kept.
    return *states, None, g_bias, None, None


differentiable("sigma_delta", _backward, _setup_context)
not_differentiable("sigma_delta_backward")
