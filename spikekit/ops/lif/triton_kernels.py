# Triton reads a kernel's annotations for itself, and has no types for a pointer or a block.
# mypy: ignore-errors
"""The LIF's Triton kernels: one program carries BLOCK neurons through all steps, their state in registers.

Memory is walked flat: step t of a sequence begins at t·M, and the M values of a step come in any one order. Steps are
taken in chunks whose loads come before the chunk's stores, or no load could pass the store before it and each step
would wait for memory once. A chunk that reaches past T is cut off by masks, so T stays an ordinary number.

The arithmetic is the reference's, operation for operation: kernels are compiled without fused multiply-add.
Imported by `lif.gpu` at its first call: this file needs Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spikekit.ops.triton_parts import after_reset, derivative, number, parameter, past_reset, spike, through_reset


@triton.jit(do_not_specialize=["T", "beta_count", "threshold_count", "quantum_count"])
def forward_kernel(
    x,
    v0,
    beta,
    beta_inner,
    beta_count,
    threshold,
    threshold_inner,
    threshold_count,
    quantum,
    quantum_inner,
    quantum_count,
    spikes,
    checkpoints,
    v_last,
    T,
    M,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    QUANTUM: tl.constexpr,
    RESET: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """v0 and checkpoints, which take v before the steps CHUNK, 2·CHUNK, ..., may be None."""
    state: tl.constexpr = v_last.dtype.element_ty
    step = tl.cast(M, tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = first + lane < M
    b = parameter(beta, beta_inner, beta_count, first, lane, inside, state, BETA)
    th = parameter(threshold, threshold_inner, threshold_count, first, lane, inside, state, THRESHOLD)
    q = parameter(quantum, quantum_inner, quantum_count, first, lane, inside, state, QUANTUM)
    if v0 is None:
        v = tl.full((BLOCK,), 0, state)
    else:
        v = tl.load(v0 + first + lane, mask=inside, other=0)
    for start in range(0, T, CHUNK):
        drives = ()
        for i in tl.static_range(CHUNK):
            drive = tl.load(x + first + (start + i) * step + lane, mask=inside & (start + i < T), other=0)
            drives = drives + (drive,)
        if checkpoints is not None:
            tl.store(checkpoints + first + (start // CHUNK - 1) * step + lane, v, mask=inside & (start > 0))
        for i in tl.static_range(CHUNK):
            live = start + i < T
            u = b * v + drives[i].to(state)
            s = spike(u, th, INCLUSIVE)
            to = spikes + first + (start + i) * step + lane
            tl.store(to, s.to(spikes.dtype.element_ty), mask=inside & live)
            v = tl.where(live, after_reset(u, s, q, RESET), v)
    tl.store(v_last + first + lane, v, mask=inside)


@triton.jit(do_not_specialize=["T", "beta_count", "threshold_count", "quantum_count"])
def backward_kernel(
    grad_spikes,
    grad_v,
    x,
    checkpoints,
    v0,
    beta,
    beta_inner,
    beta_count,
    threshold,
    threshold_inner,
    threshold_count,
    quantum,
    quantum_inner,
    quantum_count,
    g_x,
    g_v0,
    g_beta,
    g_threshold,
    g_quantum,
    T,
    M,
    steepness_high,
    steepness_low,
    height_high,
    height_low,
    half_width_high,
    half_width_low,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    QUANTUM: tl.constexpr,
    RESET: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    DETACH: tl.constexpr,
    CURVE: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Chunks from the last to the first: recompute the membranes of one into registers, then walk it backwards.

    grad_spikes, grad_v and v0 may be None, and so may g_beta, g_threshold and g_quantum together.
    """
    state: tl.constexpr = g_v0.dtype.element_ty
    step = tl.cast(M, tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = first + lane < M
    b = parameter(beta, beta_inner, beta_count, first, lane, inside, state, BETA)
    th = parameter(threshold, threshold_inner, threshold_count, first, lane, inside, state, THRESHOLD)
    q = parameter(quantum, quantum_inner, quantum_count, first, lane, inside, state, QUANTUM)
    steepness = number(steepness_high, steepness_low, state)
    height = number(height_high, height_low, state)
    half_width = number(half_width_high, half_width_low, state)
    zero = tl.full((BLOCK,), 0, state)
    at_rest = zero
    if v0 is not None:
        at_rest = tl.load(v0 + first + lane, mask=inside, other=0)
    g_v = zero
    if grad_v is not None:
        g_v = tl.load(grad_v + first + lane, mask=inside, other=0)
    g_u = zero
    sum_beta = zero
    sum_threshold = zero
    sum_quantum = zero
    chunks = (T + CHUNK - 1) // CHUNK
    for done in range(0, chunks):
        chunk = chunks - 1 - done
        start = chunk * CHUNK
        kept = tl.load(checkpoints + first + (chunk - 1) * step + lane, mask=inside & (chunk > 0), other=0)
        v = tl.where(chunk > 0, kept, at_rest)
        membranes = ()
        for i in tl.static_range(CHUNK):
            drive = tl.load(x + first + (start + i) * step + lane, mask=inside & (start + i < T), other=0)
            u = b * v + drive.to(state)
            membranes = membranes + (u,)
            v = after_reset(u, spike(u, th, INCLUSIVE), q, RESET)
        grads = ()
        for i in tl.static_range(CHUNK):
            if grad_spikes is None:
                grads = grads + (zero,)
            else:
                grad = tl.load(grad_spikes + first + (start + i) * step + lane, mask=inside & (start + i < T), other=0)
                grads = grads + (grad,)
        for j in tl.static_range(CHUNK):
            t = start + (CHUNK - 1 - j)
            live = t < T
            u = membranes[CHUNK - 1 - j]
            s = spike(u, th, INCLUSIVE)
            if g_beta is not None:
                sum_beta += tl.where(live, g_u * after_reset(u, s, q, RESET), 0.0)
            g_s = through_reset(grads[CHUNK - 1 - j].to(state), u, q, g_v, RESET, DETACH)
            g_m = derivative(u - th, steepness, height, half_width, CURVE) * g_s
            if g_threshold is not None:
                sum_threshold -= tl.where(live, g_m, 0.0)
                if RESET == "soft":
                    sum_quantum -= tl.where(live, g_v * s, 0.0)
            g = past_reset(g_v, s, RESET) + g_m
            tl.store(g_x + first + t * step + lane, g.to(g_x.dtype.element_ty), mask=inside & live)
            g_u = tl.where(live, g, g_u)
            g_v = tl.where(live, b * g, g_v)
    tl.store(g_v0 + first + lane, g_v, mask=inside)
    if g_beta is not None:
        tl.store(g_beta + first + lane, sum_beta + g_u * at_rest, mask=inside)
        tl.store(g_threshold + first + lane, sum_threshold, mask=inside)
        tl.store(g_quantum + first + lane, sum_quantum, mask=inside)
