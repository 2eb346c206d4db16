/* The LIF with a refractory period over a whole sequence; the equations are in reference.py and sequence.py. */
#include "native/lif_call.h"

/* As in lif_call; the order of the fields is that of spikekit/ops/refractory/cpu.py. */
typedef struct {
    lif_call lif;
    double period;
    const real *r0;
    real *r, *countdowns;
} refractory_call;

/* v and r become the next state; u and r_out, where wanted, and s what came before it. */
SPECIALISED void step(const refractory_call *c, int64_t at, const real *restrict x, real *restrict v, real *restrict r,
                      real *restrict u_out, real *restrict r_out, real *restrict s_out, int each, int reset,
                      int inclusive, int64_t n) {
    const int64_t p = at * each;
    const real *beta = c->lif.beta + p, *threshold = c->lif.threshold + p, *quantum = c->lif.quantum + p;
    const real period = (real)c->period;
    for (int64_t i = 0; i < n; i++) {
        const int live = r[i] == 0;
        real moved = beta[i * each] * v[i] + x[i];
        real u = live ? moved : v[i];
        real s = live & (inclusive ? u >= threshold[i * each] : u > threshold[i * each]);
        real left = live ? s * period : r[i] - 1;
        if (u_out) { u_out[i] = u; r_out[i] = left; }
        s_out[i] = s;
        r[i] = left;
        v[i] = after_reset(u, s, quantum[i * each], reset);
    }
}

static void forward(const void *call, int64_t at, int64_t n) {
    const refractory_call *c = call;
    const lif_call *lif = &c->lif;
    copy_or_zero(lif->v + at, AT(lif->v0, at), n);
    copy_or_zero(c->r + at, AT(c->r0, at), n);
    for (int64_t t = 0; t < lif->steps; t++) {
        const int64_t row = t * lif->neurons + at;
        real *u = AT(lif->membranes, row), *r = AT(c->countdowns, row);
#define STEP(each, keep, reset, inclusive) \
    step(c, at, lif->x + row, lif->v + at, c->r + at, keep ? u : NULL, keep ? r : NULL, lif->spikes + row, \
         each, reset, inclusive, n)
        FORWARD_CASES(lif, u, STEP)
#undef STEP
    }
}

void refractory_forward(const refractory_call *c) {
    for_blocks(forward, c, c->lif.neurons, c->lif.threads, BLOCK / 2);
}

/* One step back for n neurons. The sums are arguments: only of those does the compiler believe that they do not overlap.
   r and v: as they were before the step. slope: the surrogate's derivative at u. */
SPECIALISED void step_back(const lif_call *c, int64_t at, const real *restrict u, const real *restrict r,
                           const real *restrict v, const real *restrict slope, const real *restrict grad_s,
                           real *restrict grad_x, real *restrict g_v, real *restrict g_beta,
                           real *restrict g_threshold, real *restrict g_quantum, int each, int learn, int reset,
                           int detach, int64_t n) {
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

/* v after a step, from its membrane and the countdown before it. */
static void states(const lif_call *c, int64_t at, const real *u, const real *r, real *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = c->each ? at + i : 0;
        real s = (r[i] == 0) & ((u[i] > c->threshold[k]) | (c->inclusive & (u[i] == c->threshold[k])));
        v[i] = after_reset(u[i], s, c->quantum[k], c->reset);
    }
}

/* One step back for a strip. rest: zeros, for a countdown that there is none of. */
static void strip_back(const refractory_call *c, int64_t t, int64_t at, const real *rest, int64_t n) {
    const lif_call *lif = &c->lif;
    const int64_t row = t * lif->neurons + at, before = row - lif->neurons;
    const real *u = lif->membranes + row, *start = c->r0 ? c->r0 + at : rest;
    const real *r = t ? c->countdowns + before : start;
    real slope[STRIP], v[STRIP];
    if (lif->grad_beta && t)
        states(lif, at, lif->membranes + before, t > 1 ? c->countdowns + before - lif->neurons : start, v, n);
    else if (lif->grad_beta)
        copy_or_zero(v, AT(lif->v0, at), n);
    slopes_at(lif, at, u, slope, n);
#define STEP_BACK(each, learn, reset, detach) \
    step_back(lif, at, u, r, v, slope, lif->grad_spikes + row, lif->grad_x + row, lif->grad_v0 + at, \
              AT(lif->grad_beta, at), AT(lif->grad_threshold, at), AT(lif->grad_quantum, at), each, learn, reset, detach, n)
    BACKWARD_CASES(lif, STEP_BACK)
}

static void backward(const void *call, int64_t at, int64_t n) {
    const refractory_call *c = call;
    const real rest[STRIP] = {0};
    begin_backward(&c->lif, at, n);
    for (int64_t t = c->lif.steps - 1; t >= 0; t--)
        for (int64_t i = 0; i < n; i += STRIP) strip_back(c, t, at + i, rest, smaller(STRIP, n - i));
}

void refractory_backward(const refractory_call *c) {
    for_blocks(backward, c, c->lif.neurons, c->lif.threads, BLOCK / 2);
}
