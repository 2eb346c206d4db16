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


@triton.jit
def spike(u, threshold, INCLUSIVE: tl.constexpr):
    """1 where the threshold is passed, else 0, in the dtype of u."""
    if INCLUSIVE:
        fired = u >= threshold
    else:
        fired = u > threshold
    return fired.to(u.dtype)


@triton.jit
def after_reset(u, s, quantum, RESET: tl.constexpr):
    """The state v after the spikes s of the membrane u."""
    # Products, not choices: a NaN or an Inf must reach the last v, where it is looked for.
    if RESET == "soft":
        v = u - quantum * s
    elif RESET == "hard":
        v = u * (1 - s)
    else:
        v = u
    return v


@triton.jit
def through_reset(g_s, u, quantum, g_v, RESET: tl.constexpr, DETACH: tl.constexpr):
    """dL/ds of spikes that also reset the membrane u, whose state after it has the gradient g_v."""
    if not DETACH:
        if RESET == "soft":
            g_s = g_s - quantum * g_v
        elif RESET == "hard":
            g_s = g_s - u * g_v
    return g_s


@triton.jit
def past_reset(g_v, s, RESET: tl.constexpr):
    """What of the gradient g_v after the spikes s reaches the membrane itself."""
    if RESET == "hard":
        g_v = g_v * (1 - s)
    return g_v


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def total(a):
    """The sum of a block over its first axis."""
    # Not tl.sum: what Triton's own library makes of it depends on how Triton was first imported.
    return tl.reduce(a, 0, _add)


@triton.jit
def quotient(a, b):
    """A / b, rounded once: the approximation that float32 has by default would move spikes."""
    if a.dtype == tl.float32:
        q = tl.div_rn(a, b)
    else:
        q = a / b
    return q


@triton.jit
def derivative(m, steepness, height, half_width, CURVE: tl.constexpr):
    """The surrogate's derivative at m, in the constants that `spikekit.ops.gpu.curve` makes of its numbers."""
    if CURVE == "ATan":
        z = m * steepness
        d = height / (1 + z * z)
    elif CURVE == "FastSigmoid":
        z = 1 + tl.abs(m) * steepness
        d = height / (z * z)
    elif CURVE == "Triangle":
        d = height * tl.maximum(1 - tl.abs(m) * steepness, 0.0)
    elif CURVE == "Rectangle":
        d = tl.where(tl.abs(m) < half_width, height, 0.0)
    elif CURVE == "Exponential":
        d = height * tl.exp(-tl.abs(m) * steepness)
    elif CURVE == "Sigmoid" or CURVE == "SechBump":
        # σ(z)·(1 - σ(z)) = e/(1 + e)², e = exp(-|z|), a quarter of sech²(z/2): no cancellation, no overflow.
        e = tl.exp(-tl.abs(m) * steepness)
        d = height * e / ((1 + e) * (1 + e))
        if CURVE == "SechBump":
            d = tl.where(tl.abs(m) < half_width, d, 0.0)
    else:
        tl.static_assert(CURVE == "StraightThrough")
        d = tl.full(m.shape, 1, m.dtype)
    return d
