"""The LIF modulated by astrocytes by the Triton kernels of triton_kernels.py: state in float32 or float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikekit.ops.astrocyte.self_test import CASES, hold_astrocyte
from spikekit.ops.gpu import Kernels, arguments, curve, describe, knows, on_device_of
from spikekit.ops.lif.cpu import FLOATS
from spikekit.ops.lif.reference import state_dtype

# Neurons of a domain: a program holds all of them, and of more its registers would not.
LARGEST = 4096


def supports(x: Tensor, domains: int, surrogate: str) -> bool:
    """Whether these kernels serve a drive like x, cut into so many domains, with the surrogate of that key."""
    fits = 0 < x[0, 0].numel() // domains <= LARGEST and x.shape[1] > 0
    return fits and knows(surrogate) and x.dtype in FLOATS and KERNELS.trusted(state_dtype(x.dtype))


def forward(
    x: Tensor,
    v0: Tensor | None,
    c0: Tensor | None,
    sensed: Tensor | None,
    parameters: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    acts_on: str,
    own: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results as in `sequence.forward`."""
    dtype = state_dtype(x.dtype)
    drive = x.contiguous()
    v0, c0, sensed = (None if a is None else a.contiguous() for a in (v0, c0, sensed))
    glia = [value.contiguous() for value in glia]
    domains, scales = glia[0].shape
    spikes, v = torch.empty_like(drive), torch.empty_like(drive[0], dtype=dtype)
    c = v.new_empty((x.shape[1], domains, scales))
    shapes = (v.shape, c.shape, c.shape[:2])
    membranes, calcium, activity = (v.new_empty((len(x), *shape) if keep else (0,)) for shape in shapes)
    described = [describe(value, v) for value in parameters]
    groups = x.shape[1] * domains
    n = v.numel() // groups
    with on_device_of(x):
        KERNELS.module.forward_kernel[(groups,)](
            drive,
            v0,
            c0,
            sensed,
            *arguments(described),
            *glia,
            spikes,
            *((membranes, calcium, activity) if keep else (None, None, None)),
            v,
            c,
            len(x),
            groups,
            n,
            domains,
            *(parameter.kind for parameter in described),
            RESET=reset,
            INCLUSIVE=inclusive,
            ACTS_ON=acts_on,
            OWN=own,
            SCALES=scales,
            WIDTH=_power(scales),
            BLOCK=_power(n),
            num_warps=_warps(n),
            enable_fp_fusion=False,
        )
    return spikes, membranes, calcium, activity, v, c


def backward(
    grad_spikes: Tensor,
    grad_calcium: Tensor | None,
    grad_v: Tensor | None,
    grad_c: Tensor | None,
    membranes: Tensor,
    calcium: Tensor,
    activity: Tensor,
    x: Tensor | None,
    v0: Tensor | None,
    c0: Tensor | None,
    parameters: Sequence[Tensor],
    glia: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    surrogate: str,
    numbers: Sequence[float],
    acts_on: str,
    own: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Arguments and results as in `sequence.backward`, which also takes a gradient of the membranes."""
    upstream = grad_spikes.contiguous()
    grad_calcium, grad_v, grad_c, v0, c0 = (
        None if a is None else a.contiguous() for a in (grad_calcium, grad_v, grad_c, v0, c0)
    )
    # Only a gain asks for the numbers of the drive.
    drive = membranes if x is None else x.contiguous()
    glia = [value.contiguous() for value in glia]
    domains, scales = glia[0].shape
    g_x, g_v, g_c, g_sensed = (
        torch.empty_like(upstream),
        torch.empty_like(membranes[0]),
        torch.empty_like(calcium[0]),
        torch.empty_like(activity),
    )
    sums = [torch.empty_like(g_v) for _ in parameters] if learn else []
    of_glia = [g_c.new_empty(g_c.shape[: value.ndim + 1]) for value in glia]
    described = [describe(value, g_v) for value in parameters]
    shape, constants = curve(surrogate, numbers)
    groups = membranes.shape[1] * domains
    n = g_v.numel() // groups
    with on_device_of(membranes):
        KERNELS.module.backward_kernel[(groups,)](
            upstream,
            grad_calcium,
            grad_v,
            grad_c,
            drive,
            membranes,
            calcium,
            activity,
            v0,
            c0,
            *arguments(described),
            *glia,
            g_x,
            g_v,
            g_c,
            g_sensed,
            *(sums or (None, None, None)),
            *of_glia,
            len(membranes),
            groups,
            n,
            domains,
            *constants,
            *(parameter.kind for parameter in described),
            RESET=reset,
            INCLUSIVE=inclusive,
            DETACH=detach_reset or reset == "none",
            CURVE=shape,
            ACTS_ON=acts_on,
            OWN=own,
            SCALES=scales,
            WIDTH=_power(scales),
            BLOCK=_power(n),
            num_warps=_warps(n),
            enable_fp_fusion=False,
        )
    return g_x, g_v, g_c, g_sensed, sums, [total.sum(0) for total in of_glia]


def _power(count: int) -> int:
    """The power of two that holds so many."""
    return 1 << (count - 1).bit_length()


def _warps(n: int) -> int:
    """Four to eight neurons a thread: the fewer warps, the cheaper the sum that a step waits for."""
    return min(32, max(1, _power(n) // 128))


def _self_test(device: str, dtype: torch.dtype) -> None:
    hold_astrocyte(dtype, CASES[:1], forward, backward, device)


KERNELS = Kernels("spikekit.ops.astrocyte.triton_kernels", _self_test)
