/* The LIF with a refractory period over a whole sequence; the equations are in reference.py and sequence.py. */
#include "native/reset.h"
#include "native/surrogates.h"

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/refractory/cpu.py. With each = 0, parameters hold one number for all neurons. Backward, grad_v is dL/dv
   after the last step, and becomes that before the first. */
typedef struct {
    int64_t steps, neurons;
    int32_t threads, each, reset, inclusive, detach, surrogate;
    double numbers[2], period;
    const real *x, *v0, *r0, *beta, *threshold, *quantum;
    real *spikes, *v, *r, *membranes, *countdowns;
    const real *grad_spikes;
    real *grad_x, *grad_v, *grad_beta, *grad_threshold, *grad_quantum;
} refractory_call;

/* Neurons whose slopes are computed and read again while they are in the first cache. */
#define STRIP 512

SPECIALISED void step(const refractory_call *c, int64_t at, const real *restrict x, real *restrict v, real *restrict r,
                      real *restrict u_out, real *restrict r_out, real *restrict s_out, int each, int reset,
                      int64_t n) {
    const real *beta = c->beta + at * each, *threshold = c->threshold + at * each, *quantum = c->quantum + at * each;
    const real period = (real)c->period;
    const int inclusive = c->inclusive;
    for (int64_t i = 0; i < n; i++) {
        const int live = r[i] == 0;
        real moved = beta[i * each] * v[i] + x[i];
        real u = live ? moved : v[i];
        real s = live & ((u > threshold[i * each]) | (inclusive & (u == threshold[i * each])));
        real left = live ? s * period : r[i] - 1;
        if (u_out) { u_out[i] = u; r_out[i] = left; }
        s_out[i] = s;
        r[i] = left;
        v[i] = after_reset(u, s, quantum[i * each], reset);
    }
}

SPECIALISED void any_step(const refractory_call *c, int64_t at, const real *x, real *u, real *r, real *s, int each,
                          int64_t n) {
    switch (c->reset) {
    case SOFT: step(c, at, x, c->v + at, c->r + at, u, r, s, each, SOFT, n); break;
    case HARD: step(c, at, x, c->v + at, c->r + at, u, r, s, each, HARD, n); break;
    default: step(c, at, x, c->v + at, c->r + at, u, r, s, each, NONE, n); break;
    }
}

void refractory_forward(const refractory_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK / 2), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        copy_or_zero(c->v + at, c->v0 ? c->v0 + at : NULL, n);
        copy_or_zero(c->r + at, c->r0 ? c->r0 + at : NULL, n);
        for (int64_t t = 0; t < c->steps; t++) {
            const int64_t row = t * c->neurons + at;
            real *u = c->membranes ? c->membranes + row : NULL, *r = u ? c->countdowns + row : NULL;
            if (c->each && u) any_step(c, at, c->x + row, u, r, c->spikes + row, 1, n);
            else if (c->each) any_step(c, at, c->x + row, NULL, NULL, c->spikes + row, 1, n);
            else if (u) any_step(c, at, c->x + row, u, r, c->spikes + row, 0, n);
            else any_step(c, at, c->x + row, NULL, NULL, c->spikes + row, 0, n);
        }
    }
}

/* One step back for n neurons. The sums are arguments: only of those does the compiler believe that they do not overlap.
   r and v: as they were before the step. slope: the surrogate's derivative at u. */
SPECIALISED void step_back(const refractory_call *c, int64_t at, const real *restrict u, const real *restrict r,
                           const real *restrict v, const real *restrict slope, const real *restrict grad_s,
                           real *restrict grad_x, real *restrict g_v, real *restrict g_beta,
                           real *restrict g_threshold, real *restrict g_quantum, int each, int reset, int detach,
                           int learn, int64_t n) {
    const real *beta = c->beta + at * each, *threshold = c->threshold + at * each, *quantum = c->quantum + at * each;
    const int inclusive = c->inclusive;
    for (int64_t i = 0; i < n; i++) {
        real live = r[i] == 0;
        real s = (r[i] == 0) & ((u[i] > threshold[i * each]) | (inclusive & (u[i] == threshold[i * each])));
        real lost = detach || reset == NONE ? 0 : reset == SOFT ? quantum[i * each] : u[i];
        real g_m = live * slope[i] * (grad_s[i] - lost * g_v[i]);
        real g_u = g_m + (reset == HARD ? 1 - s : 1) * g_v[i];
        grad_x[i] = live * g_u;
        if (learn) {
            g_beta[i] += live * g_u * v[i];
            g_threshold[i] -= g_m;
            if (reset == SOFT) g_quantum[i] -= g_v[i] * s;
        }
        real moved = beta[i * each] * g_u;
        g_v[i] = r[i] == 0 ? moved : g_u;
    }
}

SPECIALISED void any_step_back(const refractory_call *c, int64_t at, const real *u, const real *r, const real *v,
                               const real *slope, const real *gs, real *gx, int each, int learn, int64_t n) {
#define BACK(reset, detach) \
    step_back(c, at, u, r, v, slope, gs, gx, c->grad_v + at, learn ? c->grad_beta + at : NULL, \
              learn ? c->grad_threshold + at : NULL, learn ? c->grad_quantum + at : NULL, each, reset, detach, learn, n)
    switch (c->reset * 2 + c->detach) {
    case SOFT * 2: BACK(SOFT, 0); break;
    case SOFT * 2 + 1: BACK(SOFT, 1); break;
    case HARD * 2: BACK(HARD, 0); break;
    case HARD * 2 + 1: BACK(HARD, 1); break;
    default: BACK(NONE, 1); break;
    }
#undef BACK
}

/* v after a step, from its membrane and the countdown before it. */
static void states(const refractory_call *c, int64_t at, const real *u, const real *r, real *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = c->each ? at + i : 0;
        real s = (r[i] == 0) & ((u[i] > c->threshold[k]) | (c->inclusive & (u[i] == c->threshold[k])));
        v[i] = after_reset(u[i], s, c->quantum[k], c->reset);
    }
}

/* One step back for a strip. rest: zeros, for a countdown that there is none of. */
static void strip_back(const refractory_call *c, int64_t t, int64_t at, const real *rest, int64_t n) {
    const int learn = c->grad_beta != NULL;
    const int64_t row = t * c->neurons + at, before = row - c->neurons;
    const real *u = c->membranes + row, *gs = c->grad_spikes + row, *start = c->r0 ? c->r0 + at : rest;
    const real *r = t ? c->countdowns + before : start;
    real slope[STRIP], v[STRIP], *gx = c->grad_x + row;
    if (learn && t)
        states(c, at, c->membranes + before, t > 1 ? c->countdowns + before - c->neurons : start, v, n);
    else if (learn)
        copy_or_zero(v, c->v0 ? c->v0 + at : NULL, n);
    if (c->each) slopes(c->surrogate, c->numbers, u, c->threshold + at, 1, slope, n);
    else slopes(c->surrogate, c->numbers, u, c->threshold, 0, slope, n);
    if (c->each && learn) any_step_back(c, at, u, r, v, slope, gs, gx, 1, 1, n);
    else if (c->each) any_step_back(c, at, u, r, v, slope, gs, gx, 1, 0, n);
    else if (learn) any_step_back(c, at, u, r, v, slope, gs, gx, 0, 1, n);
    else any_step_back(c, at, u, r, v, slope, gs, gx, 0, 0, n);
}

void refractory_backward(const refractory_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK / 2), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        const real rest[STRIP] = {0};
        for (int64_t t = c->steps - 1; t >= 0; t--)
            for (int64_t i = 0; i < n; i += STRIP)
                strip_back(c, t, at + i, rest, smaller(STRIP, n - i));
    }
}
