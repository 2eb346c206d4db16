"""The integer neuron by the C kernel of integer.c, on sums in float32 and float64."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.integer.reference import STATE_SHIFT, IntegerRule, integer_reference
from spikekit.ops.lif.cpu import RESETS


class Call(ctypes.Structure):
    """`integer_call` of integer.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "neurons", "each")),
        *((name, ctypes.c_int32) for name in ("threads", "shift", "reset", "inclusive", "fires")),
        *((name, ctypes.c_void_p) for name in ("sums", "bias", "keep", "threshold", "quantum")),
        ("keep_current", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("spikes", "membranes", "v", "currents")),
    ]


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernel serves sums of `dtype`; compiles it at the first call."""
    return dtype in (torch.float32, torch.float64) and KERNELS.trusted(dtype)


def forward(
    sums: Tensor,
    bias: Tensor,
    keep: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: IntegerRule,
    membranes: bool,
    keep_current: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membranes and last v as `integer_reference` has them; no membranes, an empty tensor, unless asked for.

    sums: [T, B, ...] with time and batch outermost, and each sample dense in some order of its axes.
    """
    sample = sums[0, 0]
    names = ["bias", "keep", "threshold", "quantum"]
    given = [bias, keep, threshold, quantum]
    if keep_current is not None:
        names, given = [*names, "keep_current"], [*given, keep_current]
    values = [torch.empty_like(sample, dtype=torch.int32).copy_(value) for value in given]
    spikes = native.empty_like(sums) if rule.fires else torch.zeros_like(sums)
    kept = native.empty_like(sums, torch.int32) if membranes else torch.empty(0, dtype=torch.int32)
    v = native.empty_like(sums[0], torch.int32)
    call = Call(
        steps=len(sums),
        neurons=sums[0].numel(),
        each=sample.numel(),
        threads=native.threads_for(sums.numel()),
        shift=rule.exponent + STATE_SHIFT,
        reset=RESETS.index(rule.reset),
        inclusive=rule.inclusive,
        fires=rule.fires,
    )
    native.point(call, sums=sums, membranes=kept, v=v, **dict(zip(names, values, strict=True)))
    if rule.fires:
        native.point(call, spikes=spikes)
    if keep_current is not None:
        # Named until the kernel has run: the call holds only its address.
        currents = native.empty_like(v)
        native.point(call, currents=currents)
    KERNELS.library(sums.dtype).integer_forward(ctypes.byref(call))
    return spikes, kept, v


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernel against the reference: raises where they differ."""
    generator = torch.Generator().manual_seed(0)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    sums = whole(-(2**18), 2**18, 6, 3, 37).to(dtype)
    bias, keep = whole(-(2**19), 2**19, 37), whole(0, 4097, 37)
    threshold, quantum = whole(64, 2**22, 37), whole(-(2**22), 2**22, 37)
    for reset in RESETS:
        for fires in (True, False):
            rule = IntegerRule(1, reset, reset == "soft", fires)
            for current in (None, keep.clamp(max=4095)):
                expected = integer_reference(sums, bias, keep, threshold, quantum, rule, current)
                found = forward(sums, bias, keep, threshold, quantum, rule, True, current)
                if not all(map(torch.equal, found, expected)):
                    kind = "" if current is None else ", with a kept current"
                    raise ArithmeticError(f"other numbers than the reference, reset {reset}{kind}")


KERNELS = native.Kernels(Path(__file__).with_name("integer.c"), _self_test)
