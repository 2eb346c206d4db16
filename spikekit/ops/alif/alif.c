/* The LIF with an adaptive threshold over a whole sequence; the equations are in reference.py and sequence.py. */
#include "native/reset.h"
#include "native/surrogates.h"

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/alif/cpu.py. With each = 0, parameters hold one number for all neurons. v and a: the state, which becomes
   the last one. Backward, grad_v and grad_a are dL/dv and dL/da after the last step, and become those before the
   first. */
typedef struct {
    int64_t steps, neurons;
    int32_t threads, each, reset, inclusive, detach, surrogate;
    double numbers[2];
    const real *x, *v0, *a0, *beta, *threshold, *quantum, *rho, *rise;
    real *spikes, *v, *a, *membranes, *adaptations;
    const real *grad_spikes;
    real *grad_x, *grad_v, *grad_a, *grad_beta, *grad_threshold, *grad_quantum, *grad_rho, *grad_rise;
} alif_call;

/* Neurons whose thresholds and slopes are computed and read again while they are in the first cache. */
#define STRIP 512

SPECIALISED void step(const alif_call *c, int64_t at, const real *restrict x, real *restrict v, real *restrict a,
                      real *restrict u_out, real *restrict a_out, real *restrict s_out, int each, int reset,
                      int64_t n) {
    const real *beta = c->beta + at * each, *threshold = c->threshold + at * each, *quantum = c->quantum + at * each;
    const real *rho = c->rho + at * each, *rise = c->rise + at * each;
    const int inclusive = c->inclusive;
    for (int64_t i = 0; i < n; i++) {
        real u = beta[i * each] * v[i] + x[i];
        real level = threshold[i * each] + rise[i * each] * a[i];
        real s = (u > level) | (inclusive & (u == level));
        real next = rho[i * each] * a[i] + s;
        if (u_out) { u_out[i] = u; a_out[i] = next; }
        s_out[i] = s;
        a[i] = next;
        v[i] = after_reset(u, s, quantum[i * each], reset);
    }
}

SPECIALISED void any_step(const alif_call *c, int64_t at, const real *x, real *u, real *a, real *s, int each, int64_t n) {
    switch (c->reset) {
    case SOFT: step(c, at, x, c->v + at, c->a + at, u, a, s, each, SOFT, n); break;
    case HARD: step(c, at, x, c->v + at, c->a + at, u, a, s, each, HARD, n); break;
    default: step(c, at, x, c->v + at, c->a + at, u, a, s, each, NONE, n); break;
    }
}

void alif_forward(const alif_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK / 2), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        copy_or_zero(c->v + at, c->v0 ? c->v0 + at : NULL, n);
        copy_or_zero(c->a + at, c->a0 ? c->a0 + at : NULL, n);
        for (int64_t t = 0; t < c->steps; t++) {
            const int64_t row = t * c->neurons + at;
            real *u = c->membranes ? c->membranes + row : NULL, *a = u ? c->adaptations + row : NULL;
            if (c->each && u) any_step(c, at, c->x + row, u, a, c->spikes + row, 1, n);
            else if (c->each) any_step(c, at, c->x + row, NULL, NULL, c->spikes + row, 1, n);
            else if (u) any_step(c, at, c->x + row, u, a, c->spikes + row, 0, n);
            else any_step(c, at, c->x + row, NULL, NULL, c->spikes + row, 0, n);
        }
    }
}

/* One step back for n neurons. The sums are arguments: only of those does the compiler believe that they do not overlap.
   a and v: as they were before the step. level: the threshold that decided. slope: the
   surrogate's derivative there. */
SPECIALISED void step_back(const alif_call *c, int64_t at, const real *restrict u, const real *restrict level,
                           const real *restrict a, const real *restrict slope, const real *restrict grad_s,
                           real *restrict grad_x, real *restrict g_v, real *restrict g_a, const real *restrict v,
                           real *restrict g_beta, real *restrict g_threshold, real *restrict g_quantum,
                           real *restrict g_rho, real *restrict g_rise, int each, int reset, int detach, int learn,
                           int64_t n) {
    const real *beta = c->beta + at * each, *quantum = c->quantum + at * each;
    const real *rho = c->rho + at * each, *rise = c->rise + at * each;
    const int inclusive = c->inclusive;
    for (int64_t i = 0; i < n; i++) {
        real s = (u[i] > level[i]) | (inclusive & (u[i] == level[i]));
        real lost = detach || reset == NONE ? 0 : reset == SOFT ? quantum[i * each] : u[i];
        real g_m = slope[i] * (grad_s[i] + g_a[i] - lost * g_v[i]);
        real g_u = g_m + (reset == HARD ? 1 - s : 1) * g_v[i];
        grad_x[i] = g_u;
        if (learn) {
            g_beta[i] += g_u * v[i];
            g_threshold[i] -= g_m;
            if (reset == SOFT) g_quantum[i] -= g_v[i] * s;
            g_rho[i] += g_a[i] * a[i];
            g_rise[i] -= g_m * a[i];
        }
        g_a[i] = rho[i * each] * g_a[i] - rise[i * each] * g_m;
        g_v[i] = beta[i * each] * g_u;
    }
}

SPECIALISED void any_step_back(const alif_call *c, int64_t at, const real *u, const real *level, const real *a,
                               const real *slope, const real *gs, real *gx, const real *v, int each, int learn,
                               int64_t n) {
#define BACK(reset, detach) \
    step_back(c, at, u, level, a, slope, gs, gx, c->grad_v + at, c->grad_a + at, v, \
              learn ? c->grad_beta + at : NULL, learn ? c->grad_threshold + at : NULL, \
              learn ? c->grad_quantum + at : NULL, learn ? c->grad_rho + at : NULL, \
              learn ? c->grad_rise + at : NULL, each, reset, detach, learn, n)
    switch (c->reset * 2 + c->detach) {
    case SOFT * 2: BACK(SOFT, 0); break;
    case SOFT * 2 + 1: BACK(SOFT, 1); break;
    case HARD * 2: BACK(HARD, 0); break;
    case HARD * 2 + 1: BACK(HARD, 1); break;
    default: BACK(NONE, 1); break;
    }
#undef BACK
}

/* The threshold that decided, from the adaptation before the step. */
static void levels(const alif_call *c, int64_t at, const real *a, real *level, int64_t n) {
    if (c->each)
        for (int64_t i = 0; i < n; i++) level[i] = c->threshold[at + i] + c->rise[at + i] * a[i];
    else
        for (int64_t i = 0; i < n; i++) level[i] = c->threshold[0] + c->rise[0] * a[i];
}

/* v after a step, from its membrane and its threshold. */
static void states(const alif_call *c, int64_t at, const real *u, const real *level, real *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real s = (u[i] > level[i]) | (c->inclusive & (u[i] == level[i]));
        v[i] = after_reset(u[i], s, c->quantum[c->each ? at + i : 0], c->reset);
    }
}

/* One step back for a strip. rest: zeros, for what there is none of. */
static void strip_back(const alif_call *c, int64_t t, int64_t at, const real *rest, int64_t n) {
    const int learn = c->grad_beta != NULL;
    const int64_t row = t * c->neurons + at, before = row - c->neurons;
    const real *u = c->membranes + row, *gs = c->grad_spikes + row, *start = c->a0 ? c->a0 + at : rest;
    const real *a = t ? c->adaptations + before : start;
    real slope[STRIP], level[STRIP], v[STRIP], *gx = c->grad_x + row;
    if (learn && t) {
        levels(c, at, t > 1 ? c->adaptations + before - c->neurons : start, level, n);
        states(c, at, c->membranes + before, level, v, n);
    } else if (learn)
        copy_or_zero(v, c->v0 ? c->v0 + at : NULL, n);
    levels(c, at, a, level, n);
    slopes(c->surrogate, c->numbers, u, level, 1, slope, n);
    if (c->each && learn) any_step_back(c, at, u, level, a, slope, gs, gx, v, 1, 1, n);
    else if (c->each) any_step_back(c, at, u, level, a, slope, gs, gx, v, 1, 0, n);
    else if (learn) any_step_back(c, at, u, level, a, slope, gs, gx, v, 0, 1, n);
    else any_step_back(c, at, u, level, a, slope, gs, gx, v, 0, 0, n);
}

void alif_backward(const alif_call *c) {
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
