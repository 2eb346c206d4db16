/* One step of the LIF neuron, forward and back, for the kernels that hold one: the equations are in
   spikekit/ops/lif/reference.py and, for the gradients, in spikekit/ops/lif/sequence.py. */
#ifndef SPIKEKIT_LIF_H
#define SPIKEKIT_LIF_H

#include "native/lif_call.h"

SPECIALISED void step(const lif_call *c, int64_t at, const real *restrict x, real *restrict v, real *restrict u_out,
                      real *restrict s_out, int each, int reset, int inclusive, int64_t n) {
    const real *beta = c->beta + at * each, *threshold = c->threshold + at * each, *quantum = c->quantum + at * each;
    for (int64_t i = 0; i < n; i++) {
        real u = beta[i * each] * v[i] + x[i];
        real s = inclusive ? u >= threshold[i * each] : u > threshold[i * each];
        if (u_out) u_out[i] = u;
        s_out[i] = s;
        v[i] = after_reset(u, s, quantum[i * each], reset);
    }
}

/* One step of n neurons: v becomes the next state; u, where wanted, and s what came before it. */
static void fire(const lif_call *c, int64_t at, const real *x, real *v, real *u, real *s, int64_t n) {
#define STEP(each, keep, reset, inclusive) step(c, at, x, v, keep ? u : NULL, s, each, reset, inclusive, n)
    FORWARD_CASES(c, u, STEP)
#undef STEP
}

/* carry: dL/dv[t] in, dL/dv[t-1] out; next: dL/du[t+1] in, dL/du[t] out. The sums are arguments: only of those does the
   compiler believe that they do not overlap. */
SPECIALISED void step_back(const lif_call *c, int64_t at, const real *restrict u, const real *restrict slope,
                           const real *restrict grad_s, real *restrict carry, real *restrict next,
                           real *restrict grad_x, real *restrict g_beta, real *restrict g_threshold,
                           real *restrict g_quantum, int each, int learn, int reset, int detach, int64_t n) {
    const real *beta = c->beta + at * each, *threshold = c->threshold + at * each, *quantum = c->quantum + at * each;
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

/* One step back for n neurons, STRIP at a time. */
static void back(const lif_call *c, int64_t at, const real *u, const real *gs, real *carry, real *next, real *gx,
                 int64_t n) {
    real slope[STRIP];
    for (int64_t i = 0; i < n; i += STRIP) {
        const int64_t from = at + i, m = smaller(STRIP, n - i);
        slopes_at(c, from, u + i, slope, m);
#define STEP_BACK(each, learn, reset, detach) \
    step_back(c, from, u + i, slope, gs + i, carry + i, next + i, gx + i, AT(c->grad_beta, from), \
              AT(c->grad_threshold, from), AT(c->grad_quantum, from), \
              each, learn, reset, detach, m)
        BACKWARD_CASES(c, STEP_BACK)
#undef STEP_BACK
    }
}

#endif
