# Triton reads a kernel's annotations for itself, and has no types for a pointer or a block.
# mypy: ignore-errors
"""The leaky integrator's Triton kernels, made like those of the LIF: see `spikekit.ops.lif.triton_kernels`."""

from __future__ import annotations

import triton
import triton.language as tl

from spikekit.ops.triton_parts import parameter


@triton.jit(do_not_specialize=["T", "beta_count"])
def forward_kernel(
    x,
    v0,
    beta,
    beta_inner,
    beta_count,
    membranes,
    T,
    M,
    BETA: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """v0 may be None."""
    state: tl.constexpr = membranes.dtype.element_ty
    step = tl.cast(M, tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = first + lane < M
    b = parameter(beta, beta_inner, beta_count, first, lane, inside, state, BETA)
    if v0 is None:
        v = tl.full((BLOCK,), 0, state)
    else:
        v = tl.load(v0 + first + lane, mask=inside, other=0)
    for start in range(0, T, CHUNK):
        drives = ()
        for i in tl.static_range(CHUNK):
            drive = tl.load(x + first + (start + i) * step + lane, mask=inside & (start + i < T), other=0)
            drives = drives + (drive,)
        for i in tl.static_range(CHUNK):
            # Steps past T come last and are not stored: what they make of v does not matter.
            v = b * v + drives[i].to(state)
            tl.store(membranes + first + (start + i) * step + lane, v, mask=inside & (start + i < T))


@triton.jit(do_not_specialize=["T", "beta_count"])
def backward_kernel(
    grad,
    membranes,
    v0,
    beta,
    beta_inner,
    beta_count,
    g_x,
    g_v0,
    g_beta,
    T,
    M,
    BETA: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """v0 may be None, and membranes and g_beta together."""
    state: tl.constexpr = g_v0.dtype.element_ty
    step = tl.cast(M, tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = first + lane < M
    b = parameter(beta, beta_inner, beta_count, first, lane, inside, state, BETA)
    zero = tl.full((BLOCK,), 0, state)
    at_rest = zero
    if v0 is not None:
        at_rest = tl.load(v0 + first + lane, mask=inside, other=0)
    g = zero
    sum_beta = zero
    for done in range(0, T, CHUNK):
        last = T - 1 - done
        grads = ()
        befores = ()
        for i in tl.static_range(CHUNK):
            t = last - i
            upstream = tl.load(grad + first + t * step + lane, mask=inside & (t >= 0), other=0)
            grads = grads + (upstream,)
            if g_beta is not None:
                before = tl.load(membranes + first + (t - 1) * step + lane, mask=inside & (t > 0), other=0)
                befores = befores + (before,)
        for i in tl.static_range(CHUNK):
            t = last - i
            # As in the reference: the decay comes between two steps.
            g_u = g + grads[i]
            tl.store(g_x + first + t * step + lane, g_u.to(g_x.dtype.element_ty), mask=inside & (t >= 0))
            if g_beta is not None:
                sum_beta += g_u * tl.where(t == 0, at_rest, befores[i])
            g = tl.where(t >= 0, b * g_u, g)
    tl.store(g_v0 + first + lane, g, mask=inside)
    if g_beta is not None:
        tl.store(g_beta + first + lane, sum_beta, mask=inside)
