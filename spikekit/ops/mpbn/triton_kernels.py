# Triton reads a kernel's annotations for itself, and has no types for a pointer or a block.
# mypy: ignore-errors
"""The MPBN layer's Triton kernels: one program owns BLOCK neurons of every sample, and so their statistics.

A step is [B, N], contiguous. The state of a program is a tile [ROWS, BLOCK], ROWS the power of two from B up. Equations
in reference.py and, for the gradients, in sequence.py. Sums are in float64, as there.
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
def _sums(a, inside):
    """Sums over the samples."""
    return total(tl.where(inside, a.to(tl.float64), 0.0))


@triton.jit
def _scale(weight, var, eps):
    """Rounded as torch rounds it, root and quotient."""
    if var.dtype == tl.float32:
        deviation = tl.sqrt_rn(var + eps)
    else:
        deviation = tl.sqrt(var + eps)
    return quotient(weight, deviation)


@triton.jit(do_not_specialize=["T", "B", "beta_count", "threshold_count", "quantum_count"])
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
    weight,
    bias,
    mean,
    var,
    spikes,
    membranes,
    v_last,
    means,
    variances,
    running_mean,
    running_var,
    T,
    B,
    N,
    momentum_high,
    momentum_low,
    eps_high,
    eps_low,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    QUANTUM: tl.constexpr,
    TRAINING: tl.constexpr,
    RESET: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """v0 and membranes may be None. means, variances [T, N] and the running ones [N] are written in training alone."""
    state: tl.constexpr = v_last.dtype.element_ty
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    here = first + lane < N
    row = tl.arange(0, ROWS)
    inside = (row < B)[:, None] & here[None, :]
    tile = first + row.to(tl.int64)[:, None] * N + lane[None, :]
    step = B * tl.cast(N, tl.int64)
    b = parameter(beta, beta_inner, beta_count, first, lane, here, state, BETA)
    th = parameter(threshold, threshold_inner, threshold_count, first, lane, here, state, THRESHOLD)
    q = parameter(quantum, quantum_inner, quantum_count, first, lane, here, state, QUANTUM)
    w = tl.load(weight + first + lane, mask=here, other=0)
    shift = tl.load(bias + first + lane, mask=here, other=0)
    now = tl.load(mean + first + lane, mask=here, other=0)
    spread = tl.load(var + first + lane, mask=here, other=1)
    eps = number(eps_high, eps_low, state)
    momentum = number(momentum_high, momentum_low, state)
    scale = _scale(w, spread, eps)
    moved_mean = now
    moved_var = spread
    if v0 is None:
        v = tl.full((ROWS, BLOCK), 0, state)
    else:
        v = tl.load(v0 + tile, mask=inside, other=0)
    drive = tl.load(x + tile, mask=inside, other=0)
    for t in range(0, T):
        u = b * v + drive.to(state)
        # The next drive is on its way while this step is summed and stored.
        drive = tl.load(x + (t + 1) * step + tile, mask=inside & (t + 1 < T), other=0)
        if membranes is not None:
            tl.store(membranes + t * step + tile, u, mask=inside)
        if TRAINING:
            count = tl.cast(B, tl.float64)
            now = (_sums(u, inside) / count).to(state)
            centred = (u - now[None, :]).to(tl.float64)
            squares = _sums(centred * centred, inside)
            spread = (squares / count).to(state)
            at = t * tl.cast(N, tl.int64) + first + lane
            tl.store(means + at, now, mask=here)
            tl.store(variances + at, spread, mask=here)
            moved_mean += momentum * (now - moved_mean)
            moved_var += momentum * ((squares / (count - 1)).to(state) - moved_var)
            scale = _scale(w, spread, eps)
        s = spike((u - now[None, :]) * scale[None, :] + shift[None, :], th, INCLUSIVE)
        tl.store(spikes + t * step + tile, s.to(spikes.dtype.element_ty), mask=inside)
        v = after_reset(u, s, q, RESET)
    tl.store(v_last + tile, v, mask=inside)
    if TRAINING:
        tl.store(running_mean + first + lane, moved_mean, mask=here)
        tl.store(running_var + first + lane, moved_var, mask=here)


@triton.jit(do_not_specialize=["T", "B", "beta_count", "threshold_count", "quantum_count"])
def backward_kernel(
    grad_spikes,
    grad_membranes,
    grad_v,
    membranes,
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
    weight,
    bias,
    mean,
    var,
    g_x,
    g_v0,
    g_weight,
    g_bias,
    g_beta,
    g_threshold,
    g_quantum,
    T,
    B,
    N,
    eps_high,
    eps_low,
    steepness_high,
    steepness_low,
    height_high,
    height_low,
    half_width_high,
    half_width_low,
    BETA: tl.constexpr,
    THRESHOLD: tl.constexpr,
    QUANTUM: tl.constexpr,
    TRAINING: tl.constexpr,
    RESET: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    DETACH: tl.constexpr,
    CURVE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients from above, v0, and g_beta, g_threshold and g_quantum together may be None.

    mean, var: [T, N] in training, else [N].
    """
    state: tl.constexpr = membranes.dtype.element_ty
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    here = first + lane < N
    row = tl.arange(0, ROWS)
    inside = (row < B)[:, None] & here[None, :]
    tile = first + row.to(tl.int64)[:, None] * N + lane[None, :]
    step = B * tl.cast(N, tl.int64)
    b = parameter(beta, beta_inner, beta_count, first, lane, here, state, BETA)
    th = parameter(threshold, threshold_inner, threshold_count, first, lane, here, state, THRESHOLD)
    q = parameter(quantum, quantum_inner, quantum_count, first, lane, here, state, QUANTUM)
    w = tl.load(weight + first + lane, mask=here, other=0)
    shift = tl.load(bias + first + lane, mask=here, other=0)
    eps = number(eps_high, eps_low, state)
    exact_eps = number(eps_high, eps_low, tl.float64)
    steepness = number(steepness_high, steepness_low, state)
    height = number(height_high, height_low, state)
    half_width = number(half_width_high, half_width_low, state)
    count = tl.cast(B, tl.float64)
    carry = tl.full((ROWS, BLOCK), 0, state)
    later = carry
    if grad_v is not None:
        carry = tl.load(grad_v + tile, mask=inside, other=0)
    sum_weight = tl.full((BLOCK,), 0, tl.float64)
    sum_bias = sum_weight
    sum_beta = sum_weight
    sum_threshold = sum_weight
    sum_quantum = sum_weight
    for done in range(0, T):
        t = T - 1 - done
        u = tl.load(membranes + t * step + tile, mask=inside, other=0)
        g_s = tl.full((ROWS, BLOCK), 0, state)
        if grad_spikes is not None:
            g_s = tl.load(grad_spikes + t * step + tile, mask=inside, other=0).to(state)
        at = first + lane
        if TRAINING:
            at += t * tl.cast(N, tl.int64)
        now = tl.load(mean + at, mask=here, other=0)
        spread = tl.load(var + at, mask=here, other=1)
        scale = _scale(w, spread, eps)
        centred = u - now[None, :]
        m = centred * scale[None, :] + shift[None, :]
        s = spike(m, th, INCLUSIVE)
        if g_beta is not None:
            sum_beta += _sums(later * after_reset(u, s, q, RESET), inside)
            if RESET == "soft":
                sum_quantum -= _sums(s * carry, inside)
        g_s = through_reset(g_s, u, q, carry, RESET, DETACH)
        g_m = derivative(m - th, steepness, height, half_width, CURVE) * g_s
        along = _sums(g_m, inside)
        across = _sums(g_m.to(tl.float64) * centred, inside)
        variance = spread.to(tl.float64) + exact_eps
        sum_bias += along
        sum_weight += across / tl.sqrt(variance)
        if g_threshold is not None:
            sum_threshold -= along
        if TRAINING:
            level = (along / count).to(state)
            tilt = (across / (variance * count)).to(state)
            g_m = g_m - level[None, :] - centred * tilt[None, :]
        later = past_reset(carry, s, RESET) + scale[None, :] * g_m
        if grad_membranes is not None:
            later += tl.load(grad_membranes + t * step + tile, mask=inside, other=0)
        tl.store(g_x + t * step + tile, later, mask=inside)
        carry = b * later
    tl.store(g_v0 + tile, carry, mask=inside)
    tl.store(g_weight + first + lane, sum_weight, mask=here)
    tl.store(g_bias + first + lane, sum_bias, mask=here)
    if g_beta is not None:
        if v0 is not None:
            sum_beta += _sums(later * tl.load(v0 + tile, mask=inside, other=0), inside)
        tl.store(g_beta + first + lane, sum_beta, mask=here)
        tl.store(g_threshold + first + lane, sum_threshold, mask=here)
        tl.store(g_quantum + first + lane, sum_quantum, mask=here)
