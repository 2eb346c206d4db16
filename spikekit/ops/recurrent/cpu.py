"""The forward pass of the recurrent LIF by the C kernel of recurrent.c; half precision is converted on the way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.recurrent.reference import recurrent_reference
from spikekit.surrogate import ATan


class _Call(lif.Call):
    """`recurrent_call` of recurrent.c."""

    _fields_ = [
        ("batch", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("transposed", "s0", "membranes")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernel serves a drive of `dtype`."""
    return dtype in lif.FLOATS and KERNELS.trusted(state_dtype(dtype))


def forward(
    x: Tensor,
    v0: Tensor | None,
    s0: Tensor | None,
    weight: Tensor,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    keep: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes, membranes (None unless `keep`) and last v; arguments as in `recurrent_reference`."""
    drive = x.to(state_dtype(x.dtype)).contiguous()
    _, batch, neurons = drive.shape
    spikes, v = native.empty_like(drive), native.empty_like(drive[0])
    membranes = native.empty_like(drive) if keep else None
    # Named, so that copies live until the kernel has read them.
    v0, s0 = (None if a is None else a.contiguous() for a in (v0, s0))
    transposed = weight.t().contiguous()
    if any(a.ndim for a in parameters):
        parameters = [a.expand(neurons).contiguous() for a in parameters]
    call = lif.new_call(_Call, drive, v0, parameters, reset, inclusive, None)
    call.neurons, call.batch = neurons, batch
    native.point(call, transposed=transposed, s0=s0, spikes=spikes, v=v, membranes=membranes)
    if KERNELS.library(drive.dtype).recurrent_forward(ctypes.byref(call)):
        raise MemoryError("recurrent_forward: no memory for the drives of one step")
    return spikes.to(x.dtype), membranes, v


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernel against the reference on exact sums: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, 37, generator=generator, dtype=dtype)
    weight = torch.randint(-4, 5, (37, 37), generator=generator).to(dtype) / 16
    for reset in lif.RESETS:
        parameters = [torch.full((37,), value, dtype=dtype) for value in (0.9, 0.5, 0.7)]
        beta, threshold, quantum = parameters
        rule = LIFRule(reset, False, False, ATan())
        expected = recurrent_reference(x, None, None, weight, beta, threshold, quantum, rule)
        found = forward(x, None, None, weight, parameters, reset, False, True)
        for one, other in zip(found, expected, strict=True):
            if one is None or not torch.equal(one, other):
                raise ArithmeticError(f"other numbers than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("recurrent.c"), _self_test)
