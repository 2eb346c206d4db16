/* The LIF with an adaptive threshold over a whole sequence; the equations are in reference.py and sequence.py. */
#include "native/lif_call.h"

/* As in lif_call; the order of the fields is that of spikekit/ops/alif/cpu.py. */
typedef struct {
    lif_call lif;
    const real *a0, *rho, *rise;
    real *a, *adaptations;
    const real *grad_a;
    real *grad_a0, *grad_rho, *grad_rise;
} alif_call;

/* v and a become the next state; u and a_out, where wanted, and s what came before it. */
SPECIALISED void step(const alif_call *c, int64_t at, const real *restrict x, real *restrict v, real *restrict a,
                      real *restrict u_out, real *restrict a_out, real *restrict s_out, int each, int reset,
                      int inclusive, int64_t n) {
    const int64_t p = at * each;
    const real *beta = c->lif.beta + p, *threshold = c->lif.threshold + p, *quantum = c->lif.quantum + p;
    const real *rho = c->rho + p, *rise = c->rise + p;
    for (int64_t i = 0; i < n; i++) {
        real u = beta[i * each] * v[i] + x[i];
        real level = threshold[i * each] + rise[i * each] * a[i];
        real s = inclusive ? u >= level : u > level;
        real next = rho[i * each] * a[i] + s;
        if (u_out) { u_out[i] = u; a_out[i] = next; }
        s_out[i] = s;
        a[i] = next;
        v[i] = after_reset(u, s, quantum[i * each], reset);
    }
}

static void forward(const void *call, int64_t at, int64_t n) {
    const alif_call *c = call;
    const lif_call *lif = &c->lif;
    copy_or_zero(lif->v + at, AT(lif->v0, at), n);
    copy_or_zero(c->a + at, AT(c->a0, at), n);
    for (int64_t t = 0; t < lif->steps; t++) {
        const int64_t row = t * lif->neurons + at;
        real *u = AT(lif->membranes, row), *a = AT(c->adaptations, row);
#define STEP(each, keep, reset, inclusive) \
    step(c, at, lif->x + row, lif->v + at, c->a + at, keep ? u : NULL, keep ? a : NULL, lif->spikes + row, \
         each, reset, inclusive, n)
        FORWARD_CASES(lif, u, STEP)
#undef STEP
    }
}

void alif_forward(const alif_call *c) { for_blocks(forward, c, c->lif.neurons, c->lif.threads, BLOCK / 2); }

/* One step back for n neurons. The sums are arguments: only of those does the compiler believe that they do not overlap.
   a and v: as they were before the step. level: the threshold that decided. slope: the surrogate's derivative there. */
SPECIALISED void step_back(const alif_call *c, int64_t at, const real *restrict u, const real *restrict level,
                           const real *restrict a, const real *restrict v, const real *restrict slope,
                           const real *restrict grad_s, real *restrict grad_x, real *restrict g_v, real *restrict g_a,
                           real *restrict g_beta, real *restrict g_threshold, real *restrict g_quantum,
                           real *restrict g_rho, real *restrict g_rise, int each, int learn, int reset, int detach,
                           int64_t n) {
    const int64_t p = at * each;
    const real *beta = c->lif.beta + p, *quantum = c->lif.quantum + p, *rho = c->rho + p, *rise = c->rise + p;
    const int inclusive = c->lif.inclusive;
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

/* The threshold that decided, from the adaptation before the step. */
static void levels(const alif_call *c, int64_t at, const real *a, real *level, int64_t n) {
    const real *threshold = c->lif.threshold, *rise = c->rise;
    if (c->lif.each)
        for (int64_t i = 0; i < n; i++) level[i] = threshold[at + i] + rise[at + i] * a[i];
    else
        for (int64_t i = 0; i < n; i++) level[i] = threshold[0] + rise[0] * a[i];
}

/* v after a step, from its membrane and its threshold. */
static void states(const lif_call *c, int64_t at, const real *u, const real *level, real *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real s = (u[i] > level[i]) | (c->inclusive & (u[i] == level[i]));
        v[i] = after_reset(u[i], s, c->quantum[c->each ? at + i : 0], c->reset);
    }
}

/* One step back for a strip. rest: zeros, for what there is none of. */
static void strip_back(const alif_call *c, int64_t t, int64_t at, const real *rest, int64_t n) {
    const lif_call *lif = &c->lif;
    const int64_t row = t * lif->neurons + at, before = row - lif->neurons;
    const real *u = lif->membranes + row, *start = c->a0 ? c->a0 + at : rest;
    const real *a = t ? c->adaptations + before : start;
    real slope[STRIP], level[STRIP], v[STRIP];
    if (lif->grad_beta && t) {
        levels(c, at, t > 1 ? c->adaptations + before - lif->neurons : start, level, n);
        states(lif, at, lif->membranes + before, level, v, n);
    } else if (lif->grad_beta)
        copy_or_zero(v, AT(lif->v0, at), n);
    levels(c, at, a, level, n);
    slopes(lif->surrogate, lif->numbers, u, level, 1, slope, n);
#define STEP_BACK(each, learn, reset, detach) \
    step_back(c, at, u, level, a, v, slope, lif->grad_spikes + row, lif->grad_x + row, lif->grad_v0 + at, \
              c->grad_a0 + at, AT(lif->grad_beta, at), AT(lif->grad_threshold, at), AT(lif->grad_quantum, at), \
              AT(c->grad_rho, at), AT(c->grad_rise, at), each, learn, reset, detach, n)
    BACKWARD_CASES(lif, STEP_BACK)
}

static void backward(const void *call, int64_t at, int64_t n) {
    const alif_call *c = call;
    const real rest[STRIP] = {0};
    begin_backward(&c->lif, at, n);
    copy_or_zero(c->grad_a0 + at, AT(c->grad_a, at), n);
    if (c->grad_rho) {
        copy_or_zero(c->grad_rho + at, NULL, n);
        copy_or_zero(c->grad_rise + at, NULL, n);
    }
    for (int64_t t = c->lif.steps - 1; t >= 0; t--)
        for (int64_t i = 0; i < n; i += STRIP) strip_back(c, t, at + i, rest, smaller(STRIP, n - i));
}

void alif_backward(const alif_call *c) { for_blocks(backward, c, c->lif.neurons, c->lif.threads, BLOCK / 2); }
