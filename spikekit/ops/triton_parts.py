# Triton reads a kernel's annotations for itself, and has no types for a pointer or a block.
# mypy: ignore-errors
"""What the Triton kernels of several operations share. Needs Triton: imported by kernels only."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def parameter(a, inner, count, first, lane, inside, dtype: tl.constexpr, KIND: tl.constexpr):
    """A parameter's values for the neurons `first + lane`, as `spikekit.ops.gpu.Parameter` describes it."""
    if KIND == "one":
        value = tl.load(a)
    elif KIND == "each":
        value = tl.load(a + first + lane, mask=inside, other=0)
    else:
        # 32 bits: divisions of 64 would cost more than all steps of a short sequence.
        value = tl.load(a + (first.to(tl.int32) + lane) // inner % count, mask=inside, other=0)
    return value.to(dtype)


@triton.jit
def number(high, low, dtype: tl.constexpr):
    """A float argument is a float32: what it lost comes along as a second one."""
    return tl.cast(high, dtype) + tl.cast(low, dtype)
