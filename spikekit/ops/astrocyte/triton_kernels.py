# Triton reads a kernel's annotations for itself, and has no types for a pointer or a block.
# mypy: ignore-errors
"""The Triton kernels of the LIF modulated by astrocytes: one program carries a domain of one sample through all steps.

All of its neurons are in the program, so that the sum of their spikes is a reduction within it: a whole number, exact
in any order. The drive is asked for a step ahead, since the steps cannot overlap otherwise.

The arithmetic is the reference's, operation for operation: kernels are compiled without fused multiply-add, and the
division is the one that IEEE rounds. Imported by `astrocyte.gpu` at its first call: this file needs Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spikekit.ops.triton_parts import (
    after_reset,
    derivative,
    number,
    parameter,
    past_reset,
    quotient,
    spike,
    through_reset,
    total,
)


@triton.jit
def weighed(c, weight, bias, scale, SCALES: tl.constexpr):
    """The z of the equations, added up in the order of the reference."""
    z = bias
    for k in tl.static_range(SCALES):
        # All but one are zeros: exact.
        z = z + total(tl.where(scale == k, weight * c, 0.0))
    return z


@triton.jit
def forward_kernel(
    x,
    v0,
    c0,
    sensed,
    beta,
    beta_inner,
    beta_count,
    threshold,
    threshold_inner,
    threshold_count,
    quantum,
    quantum_inner,
    quantum_count,
    decay,
    weight,
    bias,
    strength,
    spikes,
    membranes,
    calcium,
    activity,
    v_last,
    c_last,
    T,
    GROUPS,
    N,
    DOMAINS,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    QUANTUM: tl.constexpr,
    RESET: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    ACTS_ON: tl.constexpr,
    OWN: tl.constexpr,
    SCALES: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """v0 and c0 may be None; membranes, calcium and activity together; sensed where OWN is 1."""
    state: tl.constexpr = v_last.dtype.element_ty
    group = tl.program_id(0).to(tl.int64)
    domain = group % DOMAINS
    first = group * N
    step = tl.cast(GROUPS, tl.int64) * N
    lane = tl.arange(0, BLOCK)
    inside = lane < N
    scale = tl.arange(0, WIDTH)
    kept = scale < SCALES
    b = parameter(beta, beta_inner, beta_count, first, lane, inside, state, BETA)
    th = parameter(threshold, threshold_inner, threshold_count, first, lane, inside, state, THRESHOLD)
    q = parameter(quantum, quantum_inner, quantum_count, first, lane, inside, state, QUANTUM)
    lam = tl.load(decay + domain * SCALES + scale, mask=kept, other=0)
    w = tl.load(weight + domain * SCALES + scale, mask=kept, other=0)
    offset = tl.load(bias + domain)
    kappa = tl.load(strength + domain)
    each_spike = quotient(tl.full((), 1, state), tl.cast(N, state))
    if v0 is None:
        v = tl.full((BLOCK,), 0, state)
    else:
        v = tl.load(v0 + first + lane, mask=inside, other=0)
    if c0 is None:
        c = tl.full((WIDTH,), 0, state)
    else:
        c = tl.load(c0 + group * SCALES + scale, mask=kept, other=0)
    drive = tl.load(x + first + lane, mask=inside, other=0)
    for t in range(0, T):
        ahead = tl.load(x + first + (t + 1) * step + lane, mask=inside & (t + 1 < T), other=0)
        z = weighed(c, w, offset, scale, SCALES)
        g = 1 + kappa * quotient(z, 1 + tl.abs(z))
        d = drive.to(state)
        level = th
        if ACTS_ON == "gain":
            d = g * d
        elif ACTS_ON == "threshold":
            level = th * (2 - g)
        u = b * v + d
        s = spike(u, level, INCLUSIVE)
        v = after_reset(u, s, q, RESET)
        here = t * GROUPS + group
        if OWN > 0:
            a = total(tl.where(inside, s, 0.0)) * each_spike
            if OWN < 1:
                a = OWN * a + (1 - OWN) * tl.load(sensed + here)
        else:
            a = tl.load(sensed + here)
        c = lam * c + (1 - lam) * a
        tl.store(spikes + first + t * step + lane, s.to(spikes.dtype.element_ty), mask=inside)
        if membranes is not None:
            tl.store(membranes + first + t * step + lane, u, mask=inside)
            tl.store(calcium + here * SCALES + scale, c, mask=kept)
            tl.store(activity + here, a)
        drive = ahead
    tl.store(v_last + first + lane, v, mask=inside)
    tl.store(c_last + group * SCALES + scale, c, mask=kept)


@triton.jit
def backward_kernel(
    grad_spikes,
    grad_calcium,
    grad_v,
    grad_c,
    x,
    membranes,
    calcium,
    activity,
    v0,
    c0,
    beta,
    beta_inner,
    beta_count,
    threshold,
    threshold_inner,
    threshold_count,
    quantum,
    quantum_inner,
    quantum_count,
    decay,
    weight,
    bias,
    strength,
    g_x,
    g_v0,
    g_c0,
    g_sensed,
    g_beta,
    g_threshold,
    g_quantum,
    g_decay,
    g_weight,
    g_bias,
    g_strength,
    T,
    GROUPS,
    N,
    DOMAINS,
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
    ACTS_ON: tl.constexpr,
    OWN: tl.constexpr,
    SCALES: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """grad_calcium, grad_v, grad_c, v0 and c0 may be None; g_beta, g_threshold and g_quantum together."""
    state: tl.constexpr = g_v0.dtype.element_ty
    group = tl.program_id(0).to(tl.int64)
    domain = group % DOMAINS
    first = group * N
    step = tl.cast(GROUPS, tl.int64) * N
    lane = tl.arange(0, BLOCK)
    inside = lane < N
    scale = tl.arange(0, WIDTH)
    kept = scale < SCALES
    b = parameter(beta, beta_inner, beta_count, first, lane, inside, state, BETA)
    th = parameter(threshold, threshold_inner, threshold_count, first, lane, inside, state, THRESHOLD)
    q = parameter(quantum, quantum_inner, quantum_count, first, lane, inside, state, QUANTUM)
    lam = tl.load(decay + domain * SCALES + scale, mask=kept, other=0)
    w = tl.load(weight + domain * SCALES + scale, mask=kept, other=0)
    offset = tl.load(bias + domain)
    kappa = tl.load(strength + domain)
    each_spike = quotient(tl.full((), 1, state), tl.cast(N, state))
    steepness = number(steepness_high, steepness_low, state)
    height = number(height_high, height_low, state)
    half_width = number(half_width_high, half_width_low, state)
    zero = tl.full((BLOCK,), 0, state)
    calm = tl.full((WIDTH,), 0, state)
    g_v = zero
    if grad_v is not None:
        g_v = tl.load(grad_v + first + lane, mask=inside, other=0)
    g_c = calm
    if grad_c is not None:
        g_c = tl.load(grad_c + group * SCALES + scale, mask=kept, other=0)
    start = calm
    if c0 is not None:
        start = tl.load(c0 + group * SCALES + scale, mask=kept, other=0)
    g_u = zero
    sum_beta = zero
    sum_threshold = zero
    sum_quantum = zero
    sum_decay = calm
    sum_weight = calm
    # Blocks of one: scalars of a loop must keep their type.
    sum_bias = total(calm)
    sum_strength = total(calm)
    for back in range(0, T):
        t = T - 1 - back
        row = first + t * step + lane
        here = t * GROUPS + group
        u = tl.load(membranes + row, mask=inside, other=0)
        g_s = tl.load(grad_spikes + row, mask=inside, other=0).to(state)
        earlier = tl.load(calcium + (here - GROUPS) * SCALES + scale, mask=kept & (t > 0), other=0)
        before = tl.where(t > 0, earlier, start)
        a = tl.load(activity + here)
        if grad_calcium is not None:
            g_c += tl.load(grad_calcium + here * SCALES + scale, mask=kept, other=0)
        z = weighed(before, w, offset, scale, SCALES)
        width = 1 + tl.abs(z)
        g = 1 + kappa * quotient(z, width)
        sum_decay += g_c * (before - a)
        g_a = total(tl.where(kept, (1 - lam) * g_c, 0.0))
        g_c = lam * g_c
        tl.store(g_sensed + here, (1 - OWN) * g_a)
        level = th
        if ACTS_ON == "threshold":
            level = th * (2 - g)
        s = spike(u, level, INCLUSIVE)
        if OWN > 0:
            g_s += OWN * g_a * each_spike
        if g_beta is not None:
            sum_beta += g_u * after_reset(u, s, q, RESET)
        g_s = through_reset(g_s, u, q, g_v, RESET, DETACH)
        g_m = derivative(u - level, steepness, height, half_width, CURVE) * g_s
        g_u = past_reset(g_v, s, RESET) + g_m
        if g_beta is not None:
            if ACTS_ON == "threshold":
                sum_threshold -= g_m * (2 - g)
            else:
                sum_threshold -= g_m
            if RESET == "soft":
                sum_quantum -= g_v * s
        out = g_u
        if ACTS_ON != "threshold":
            out = g * g_u
        tl.store(g_x + row, out.to(g_x.dtype.element_ty), mask=inside)
        if ACTS_ON != "plasticity":
            if ACTS_ON == "gain":
                share = g_u * tl.load(x + row, mask=inside, other=0).to(state)
            else:
                share = g_m * th
            g_g = total(tl.where(inside, share, 0.0))
            sum_strength += g_g * (z / width)
            g_z = g_g * kappa / (width * width)
            sum_bias += g_z
            sum_weight += g_z * before
            g_c += g_z * w
        g_v = b * g_u
    tl.store(g_v0 + first + lane, g_v, mask=inside)
    tl.store(g_c0 + group * SCALES + scale, g_c, mask=kept)
    tl.store(g_decay + group * SCALES + scale, sum_decay, mask=kept)
    tl.store(g_weight + group * SCALES + scale, sum_weight, mask=kept)
    tl.store(g_bias + group, sum_bias)
    tl.store(g_strength + group, sum_strength)
    if g_beta is not None:
        if v0 is not None:
            sum_beta += g_u * tl.load(v0 + first + lane, mask=inside, other=0)
        tl.store(g_beta + first + lane, sum_beta, mask=inside)
        tl.store(g_threshold + first + lane, sum_threshold, mask=inside)
        tl.store(g_quantum + first + lane, sum_quantum, mask=inside)
