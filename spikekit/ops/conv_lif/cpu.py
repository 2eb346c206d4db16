"""Convolution and LIF in one pass, by the C kernel of conv_lif.c, on float32 and float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikekit import native
from spikekit.ops.conv import cpu as conv
from spikekit.ops.conv.reference import conv2d_reference
from spikekit.ops.layout import arranged, parameters_of
from spikekit.ops.lif import cpu as lif
from spikekit.ops.lif.reference import LIFRule, lif_reference
from spikekit.surrogate import ATan


class _Call(lif.Call):
    """`conv_lif_call` of conv_lif.c."""

    _fields_: ClassVar[Any] = [("conv", conv.Call)]


def supports(dtype: torch.dtype) -> bool:
    """Whether the kernel serves images of `dtype`; compiles it at the first call."""
    return conv.supports(dtype) and KERNELS.trusted(dtype)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    steps: Sequence[int],
    v0: Tensor | None,
    parameters: Sequence[Tensor],
    reset: str,
    inclusive: bool,
    times: int,
) -> tuple[Tensor, Tensor] | None:
    """Spikes [T, B, O, H', W'] and last v [B, O, H', W'], both channels last; None as `conv.forward`.

    x: [T·B, C, H, W] as `conv.dense` gives it, T being `times`. steps: as there. parameters: beta, threshold, quantum.
    """
    geometry = conv.convolution(x, weight, bias, steps)
    if geometry is None:
        return None
    image, kept = geometry
    batch = len(x) // times
    shape = (batch, image.out_height, image.out_width, image.outer)
    spikes, v = native.empty((times, *shape), x.dtype), native.empty(shape, x.dtype)
    spikes, v = spikes.permute(0, 1, 4, 2, 3), v.permute(0, 3, 1, 2)
    start = arranged(v0, v)
    values = parameters_of(spikes, *parameters)
    call = lif.new_call(_Call, spikes, start, values, reset, inclusive)
    call.conv, call.threads = image, min(image.threads, batch)
    native.point(call, spikes=spikes, v=v)
    if KERNELS.library(x.dtype).conv_lif(ctypes.byref(call)):
        raise MemoryError("conv_lif: no memory for an image")
    # Until here the kernel may read them.
    del kept
    return spikes, v


def _self_test(dtype: torch.dtype) -> None:
    """Hold the kernel against the references: raises where they differ."""
    generator = torch.Generator().manual_seed(0)
    # Small integers: sums are exact in any order, so that spikes can be compared.
    x = (torch.rand(5, 3, 2, 9, 8, generator=generator) < 0.2).to(dtype)
    weight = torch.randint(-4, 5, (19, 2, 3, 2), generator=generator).to(dtype)
    bias = torch.randint(-2, 3, (19,), generator=generator).to(dtype)
    beta, threshold, quantum = (torch.tensor(value, dtype=dtype) for value in (0.5, 2.0, 1.5))
    steps = (2, 1, 1, 0, 1, 1)
    images = x.flatten(0, 1)
    drive = conv2d_reference(images, weight, bias, steps[:2], steps[2:4], steps[4:]).unflatten(0, x.shape[:2])
    for reset in lif.RESETS:
        expected, _, last = lif_reference(drive, None, beta, threshold, quantum, LIFRule(reset, False, False, ATan()))
        found = forward(images, weight, bias, steps, None, (beta, threshold, quantum), reset, False, len(x))
        if found is None or not (torch.equal(found[0], expected) and torch.equal(found[1], last)):
            raise ArithmeticError(f"other spikes than the reference, reset {reset}")


KERNELS = native.Kernels(Path(__file__).with_name("conv_lif.c"), _self_test)
