/* What the kernels of every neuron with a membrane, a threshold and a reset are given, and the loops that they need. */
#ifndef SPIKEKIT_LIF_CALL_H
#define SPIKEKIT_LIF_CALL_H

#include "native/reset.h"
#include "native/surrogates.h"

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/lif/cpu.py. With each = 0, parameters hold one number for all neurons. Their gradients are there together
   or not at all; grad_v0 is always there: it carries dL/dv from step to step. */
typedef struct {
    int64_t steps, neurons;
    int32_t threads, each, reset, inclusive, detach, surrogate;
    double numbers[2];
    const real *x, *v0, *beta, *threshold, *quantum;
    real *spikes, *v, *membranes;
    const real *grad_spikes, *grad_v;
    real *grad_x, *grad_v0, *grad_beta, *grad_threshold, *grad_quantum;
} lif_call;

/* Neurons whose slopes are computed, and read again while they are in the first cache. */
#define STRIP 512

/* F(each, keep, reset, inclusive), all constants. keep: whether membranes are written. */
#define FORWARD_CASES(c, keep, F) \
    if ((c)->each && (keep)) FORWARD_CASES_(c, F, 1, 1) \
    else if ((c)->each) FORWARD_CASES_(c, F, 1, 0) \
    else if (keep) FORWARD_CASES_(c, F, 0, 1) \
    else FORWARD_CASES_(c, F, 0, 0)

#define FORWARD_CASES_(c, F, each, keep) \
    switch ((c)->reset * 2 + (c)->inclusive) { \
    case SOFT * 2: F(each, keep, SOFT, 0); break; \
    case SOFT * 2 + 1: F(each, keep, SOFT, 1); break; \
    case HARD * 2: F(each, keep, HARD, 0); break; \
    case HARD * 2 + 1: F(each, keep, HARD, 1); break; \
    case NONE * 2: F(each, keep, NONE, 0); break; \
    default: F(each, keep, NONE, 1); break; \
    }

/* F(each, learn, reset, detach), all constants. learn: whether parameters have gradients. */
#define BACKWARD_CASES(c, F) \
    if ((c)->each && (c)->grad_beta) BACKWARD_CASES_(c, F, 1, 1) \
    else if ((c)->each) BACKWARD_CASES_(c, F, 1, 0) \
    else if ((c)->grad_beta) BACKWARD_CASES_(c, F, 0, 1) \
    else BACKWARD_CASES_(c, F, 0, 0)

#define BACKWARD_CASES_(c, F, each, learn) \
    switch ((c)->reset * 2 + (c)->detach) { \
    case SOFT * 2: F(each, learn, SOFT, 0); break; \
    case SOFT * 2 + 1: F(each, learn, SOFT, 1); break; \
    case HARD * 2: F(each, learn, HARD, 0); break; \
    case HARD * 2 + 1: F(each, learn, HARD, 1); break; \
    default: F(each, learn, NONE, 1); break; \
    }

/* Behind the last step: dL/dv as it is given, and no sums yet. */
static inline void begin_backward(const lif_call *c, int64_t at, int64_t n) {
    copy_or_zero(c->grad_v0 + at, AT(c->grad_v, at), n);
    if (!c->grad_beta) return;
    memset(c->grad_beta + at, 0, n * sizeof(real));
    memset(c->grad_threshold + at, 0, n * sizeof(real));
    memset(c->grad_quantum + at, 0, n * sizeof(real));
}

/* The surrogate's derivative where the threshold does not move. */
static inline void slopes_at(const lif_call *c, int64_t at, const real *u, real *slope, int64_t n) {
    if (c->each) slopes(c->surrogate, c->numbers, u, c->threshold + at, 1, slope, n);
    else slopes(c->surrogate, c->numbers, u, c->threshold, 0, slope, n);
}

#endif
