/* One step of the LIF neuron, forward and back, for the kernels that hold one: the equations are in
   spikekit/ops/lif/reference.py and, for the gradients, in spikekit/ops/lif/sequence.py. */
#ifndef SPIKEKIT_LIF_H
#define SPIKEKIT_LIF_H

#include "native/reset.h"
#include "native/surrogates.h"

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/lif/cpu.py. With each = 0, beta, threshold and quantum hold one number for all neurons. */
typedef struct {
    int64_t steps, neurons;
    int32_t threads, each, reset, inclusive, detach, surrogate;
    double numbers[2];
    const real *x, *v0, *beta, *threshold, *quantum;
    real *spikes, *v, *membranes;
    const real *grad_spikes, *grad_v;
    real *grad_x, *grad_v0, *grad_beta, *grad_threshold, *grad_quantum;
} lif_call;

/* One step of n neurons: v becomes the next state; u, where wanted, and s what came before it. */
SPECIALISED void step(const real *restrict x, real *restrict v, const real *restrict beta,
                      const real *restrict threshold, const real *restrict quantum, int each, int reset, int inclusive,
                      real *restrict u_out, real *restrict s_out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real u = beta[i * each] * v[i] + x[i];
        real s = inclusive ? u >= threshold[i * each] : u > threshold[i * each];
        if (u_out) u_out[i] = u;
        s_out[i] = s;
        v[i] = after_reset(u, s, quantum[i * each], reset);
    }
}

SPECIALISED void any_step(const lif_call *c, int each, int64_t at, const real *x, real *v, real *u, real *s, int64_t n) {
    const real *b = c->beta + at * each, *h = c->threshold + at * each, *q = c->quantum + at * each;
    switch (c->reset * 2 + c->inclusive) {
    case SOFT * 2: step(x, v, b, h, q, each, SOFT, 0, u, s, n); break;
    case SOFT * 2 + 1: step(x, v, b, h, q, each, SOFT, 1, u, s, n); break;
    case HARD * 2: step(x, v, b, h, q, each, HARD, 0, u, s, n); break;
    case HARD * 2 + 1: step(x, v, b, h, q, each, HARD, 1, u, s, n); break;
    case NONE * 2: step(x, v, b, h, q, each, NONE, 0, u, s, n); break;
    default: step(x, v, b, h, q, each, NONE, 1, u, s, n); break;
    }
}

static void fire(const lif_call *c, int64_t at, const real *x, real *v, real *u, real *s, int64_t n) {
    if (c->each && u) any_step(c, 1, at, x, v, u, s, n);
    else if (c->each) any_step(c, 1, at, x, v, NULL, s, n);
    else if (u) any_step(c, 0, at, x, v, u, s, n);
    else any_step(c, 0, at, x, v, NULL, s, n);
}

/* One step back for n neurons. carry: dL/dv[t] in, dL/dv[t-1] out; next: dL/du[t+1] in, dL/du[t] out. */
SPECIALISED void step_back(const lif_call *c, int64_t at, const real *restrict u, const real *restrict slope,
                           const real *restrict grad_s, real *restrict carry, real *restrict next,
                           real *restrict grad_x, int each, int reset, int detach, int learn, int64_t n) {
    const real *beta = c->beta + at * each, *threshold = c->threshold + at * each, *quantum = c->quantum + at * each;
    real *g_beta = learn ? c->grad_beta + at : NULL, *g_threshold = learn ? c->grad_threshold + at : NULL;
    real *g_quantum = learn ? c->grad_quantum + at : NULL;
    const int inclusive = c->inclusive;
    for (int64_t i = 0; i < n; i++) {
        real s = (u[i] > threshold[i * each]) | (inclusive & (u[i] == threshold[i * each]));
        real local = slope[i] * grad_s[i];
        /* dv/ds through the surrogate, and dv/du beside it */
        real r = detach || reset == NONE ? 0 : -slope[i] * (reset == SOFT ? quantum[i * each] : u[i]);
        real k = (reset == HARD ? 1 - s : 1) + r;
        real g = local + k * carry[i];
        if (learn) {
            g_beta[i] += next[i] * after_reset(u[i], s, quantum[i * each], reset);
            g_threshold[i] -= local + r * carry[i];
            if (reset == SOFT) g_quantum[i] -= s * carry[i];
        }
        grad_x[i] = g;
        if (learn) next[i] = g;
        carry[i] = beta[i * each] * g;
    }
}

SPECIALISED void any_step_back(const lif_call *c, int each, int learn, int64_t at, const real *u, const real *slope,
                               const real *gs, real *carry, real *next, real *gx, int64_t n) {
    switch (c->reset * 2 + c->detach) {
    case SOFT * 2: step_back(c, at, u, slope, gs, carry, next, gx, each, SOFT, 0, learn, n); break;
    case SOFT * 2 + 1: step_back(c, at, u, slope, gs, carry, next, gx, each, SOFT, 1, learn, n); break;
    case HARD * 2: step_back(c, at, u, slope, gs, carry, next, gx, each, HARD, 0, learn, n); break;
    case HARD * 2 + 1: step_back(c, at, u, slope, gs, carry, next, gx, each, HARD, 1, learn, n); break;
    default: step_back(c, at, u, slope, gs, carry, next, gx, each, NONE, 1, learn, n); break;
    }
}

/* n neurons, STRIP at a time: their slopes are read again while they are in the first cache. */
#define STRIP 512

static void back(const lif_call *c, int64_t at, const real *u, const real *gs, real *carry, real *next, real *gx,
                 int64_t n) {
    const int learn = c->grad_beta != NULL;
    real slope[STRIP];
    for (int64_t i = 0; i < n; i += STRIP) {
        const int64_t m = smaller(STRIP, n - i);
        if (c->each) slopes(c->surrogate, c->numbers, u + i, c->threshold + at + i, 1, slope, m);
        else slopes(c->surrogate, c->numbers, u + i, c->threshold, 0, slope, m);
        if (c->each && learn) any_step_back(c, 1, 1, at + i, u + i, slope, gs + i, carry + i, next + i, gx + i, m);
        else if (c->each) any_step_back(c, 1, 0, at + i, u + i, slope, gs + i, carry + i, next + i, gx + i, m);
        else if (learn) any_step_back(c, 0, 1, at + i, u + i, slope, gs + i, carry + i, next + i, gx + i, m);
        else any_step_back(c, 0, 0, at + i, u + i, slope, gs + i, carry + i, next + i, gx + i, m);
    }
}

#endif
