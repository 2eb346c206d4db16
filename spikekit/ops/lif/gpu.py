"""The LIF operation by the Triton kernels of triton_kernels.py: state in float32 or float64, data in any float."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.ops.gpu import Kernels, arguments, block, curve, describe, knows, on_device_of
from spikekit.ops.lif.reference import LIFRule, lif_reference, state_dtype
from spikekit.surrogate import ATan

# Steps whose loads are in flight together, and whose membranes the backward pass keeps in registers: twice as many
# spill them where beta and threshold are learned.
CHUNK = 8

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def supports(dtype: torch.dtype, surrogate: str) -> bool:
    """Whether these kernels serve a drive of `dtype` with the surrogate of that key."""
    return knows(surrogate) and dtype in _FLOATS and KERNELS.trusted(state_dtype(dtype))


def forward(
    x: Tensor,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    chunk: int | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes, checkpoints (None without `chunk`) and last v; arguments as `triton_operator` lays them out.

    checkpoints [ceil(T / chunk) - 1, M]: v before the steps chunk, 2·chunk, ...
    """
    dtype = state_dtype(x.dtype)
    steps, neurons = len(x), x[0].numel()
    spikes, v = torch.empty_like(x), torch.empty_like(x[0], dtype=dtype)
    kept = None if chunk is None else v.new_empty((-(-steps // chunk) - 1, neurons))
    described = [describe(value, v) for value in parameters]
    size, warps = block(neurons)
    if neurons:
        with on_device_of(x):
            KERNELS.module.forward_kernel[(-(-neurons // size),)](
                x,
                v0,
                *arguments(described),
                spikes,
                kept if kept is not None and len(kept) else None,
                v,
                steps,
                neurons,
                *(parameter.kind for parameter in described),
                RESET=reset,
                INCLUSIVE=inclusive,
                CHUNK=CHUNK if chunk is None else chunk,
                BLOCK=size,
                num_warps=warps,
                enable_fp_fusion=False,
            )
    return spikes, kept, v


def backward(
    grad_spikes: Tensor | None,
    grad_v: Tensor | None,
    x: Tensor,
    checkpoints: Tensor | None,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    chunk: int,
    learn: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Gradients of x and v0, and with `learn` of beta, threshold and quantum for every neuron, summed over time."""
    dtype = state_dtype(x.dtype)
    neurons = x[0].numel()
    g_x, g_v0 = torch.empty_like(x), torch.empty_like(x[0], dtype=dtype)
    sums = [torch.empty_like(g_v0) for _ in range(3)] if learn else []
    described = [describe(value, g_v0) for value in parameters]
    shape, constants = curve(surrogate, numbers)
    size, warps = block(neurons)
    if neurons:
        with on_device_of(x):
            KERNELS.module.backward_kernel[(-(-neurons // size),)](
                grad_spikes,
                grad_v,
                x,
                # A short sequence has no checkpoints, and its kernel does not read them: any pointer serves.
                g_v0 if checkpoints is None or checkpoints.numel() == 0 else checkpoints,
                v0,
                *arguments(described),
                g_x,
                g_v0,
                *(sums or (None, None, None)),
                len(x),
                neurons,
                *constants,
                *(parameter.kind for parameter in described),
                RESET=reset,
                INCLUSIVE=inclusive,
                DETACH=detach_reset or reset == "none",
                CURVE=shape,
                CHUNK=chunk,
                BLOCK=size,
                num_warps=warps,
                enable_fp_fusion=False,
            )
    return g_x, g_v0, sums


def _self_test(device: str, dtype: torch.dtype) -> None:
    """Hold the kernels against the reference: raises where they differ."""
    steps, neurons = CHUNK + 3, 67
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(2, steps, neurons, generator=generator, dtype=dtype) + 0.3).to(device)
    rule = LIFRule("soft", False, False, ATan())
    values = [torch.full((), value, dtype=dtype, device=device) for value in (0.9, 0.5, 0.7)]
    leaves = [leaf.clone().requires_grad_() for leaf in (x, *values)]
    with torch.enable_grad():
        expected, _, last = lif_reference(leaves[0], None, leaves[1], leaves[2], leaves[3], rule)
        gradients = torch.autograd.grad((expected * upstream).sum() + last.sum(), leaves)
    spikes, kept, v = forward(x, None, values, "soft", False, CHUNK)
    if not (torch.equal(spikes, expected) and torch.equal(v, last)):
        raise ArithmeticError("other spikes than the reference")
    key, numbers = ATan().encode()
    g_x, _, sums = backward(
        upstream, torch.ones_like(v), x, kept, None, values, "soft", False, False, key, numbers, CHUNK, True
    )
    found = [g_x, *(total.sum() for total in sums)]
    for name, value, wanted in zip(("x", "beta", "threshold", "quantum"), found, gradients, strict=True):
        if not torch.allclose(value, wanted, rtol=1e-4, atol=1e-4):
            raise ArithmeticError(f"other gradient of {name} than the reference")


KERNELS = Kernels("spikekit.ops.lif.triton_kernels", _self_test)
