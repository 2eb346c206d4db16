"""Linear and LIF in one pass, by the C kernel of linear_lif.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.layout import arranged, parameters_of
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import LIFRule, lif_reference
from spikekit.ops.linear import cpu as linear
from spikekit.ops.linear.reference import linear_reference
from spikekit.surrogate import ATan


class _Call(lif.Call):
    """`linear_lif_call` of linear_lif.c."""

    _fields_: ClassVar[Any] = [
        *((name, ctypes.c_int64) for name in ("batch", "inner", "outer")),
        *((name, ctypes.c_void_p) for name in ("input", "panels", "bias", "scratch")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernel serves matrices of `dtype`; compiles it at the first call."""
    return linear.supports(dtype) and KERNELS.trusted(dtype)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
) -> tuple[Tensor, Tensor] | None:
    """Spikes [T, B, N] and last v [B, N] of x [T, B, K], contiguous, weight [N, K] and bias [N], contiguous.

    parameters: beta, threshold and quantum. None when the weight holds a NaN or an Inf: see `linear.product`.
    """
    panels = linear.packed(weight.t())
    if panels is None:
        return None
    spikes = native.empty((*x.shape[:2], len(weight)), x.dtype)
    v = native.empty(spikes.shape[1:], x.dtype)
    start = arranged(v0, v)
    values = parameters_of(spikes, *parameters)
    call = lif.new_call(_Call, spikes, start, values, reset, inclusive)
    call.batch, call.inner, call.outer = x.shape[1], x.shape[2], len(weight)
    call.threads = min(native.threads_for(x.numel() + spikes.numel()), x.shape[1])
    library = _library(x.dtype)
    scratch = native.empty((call.threads * library.linear_lif_scratch(call.inner, call.outer),), torch.uint8)
    native.point(call, input=x, panels=panels, bias=bias, spikes=spikes, v=v, scratch=scratch)
    library.linear_lif(ctypes.byref(call))
    return spikes, v


def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = KERNELS.library(dtype)
    library.linear_lif_scratch.argtypes = [ctypes.c_int64] * 2
    library.linear_lif_scratch.restype = ctypes.c_int64
    return library


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernel against the references: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    # Small integers: sums are exact in any order, so that spikes can be compared.
    x = (torch.rand(5, 3, 37, generator=generator) < 0.2).to(dtype)
    weight = torch.randint(-4, 5, (19, 37), generator=generator).to(dtype)
    bias = torch.randint(-2, 3, (19,), generator=generator).to(dtype)
    beta, threshold, quantum = (torch.tensor(value, dtype=dtype) for value in (0.5, 2.0, 1.5))
    drive = linear_reference(x, weight, bias)
    for reset in lif.RESETS:
        expected, _, last = lif_reference(drive, None, beta, threshold, quantum, LIFRule(reset, False, False, ATan()))
        found = forward(x, weight, bias, None, (beta, threshold, quantum), reset, False)
        if found is None or not (torch.equal(found[0], expected) and torch.equal(found[1], last)):
            raise ArithmeticError(f"other spikes than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("linear_lif.c"), _self_test)
