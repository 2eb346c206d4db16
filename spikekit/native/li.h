/* One step of the leaky integrator, forward and back; the equations are in spikekit/ops/li/sequence.py. */
#ifndef SPIKEKIT_LI_H
#define SPIKEKIT_LI_H

#include "native/kernels.h"

/* out = decay·before + x for n neurons; out may be before. With each = 0 decay is one number for all of them. */
static inline void integrate(const real *decay, int each, const real *before, const real *x, real *out, int64_t n) {
    if (each)
        for (int64_t i = 0; i < n; i++) out[i] = decay[i] * before[i] + x[i];
    else
        for (int64_t i = 0; i < n; i++) out[i] = decay[0] * before[i] + x[i];
}

/* carry: decay·dL/dout[t+1] in, decay·dL/dout[t] out, which adds to dL/dbefore. grad: dL/dout[t] of the step alone.
   grad_x may be grad. grad_decay, if not NULL, is added to; before may be NULL for zeros. */
static inline void integrate_back(const real *decay, int each, const real *before, const real *grad, real *carry,
                                  real *grad_x, real *grad_decay, int64_t n) {
    if (grad_decay && before)
        for (int64_t i = 0; i < n; i++) grad_decay[i] += (grad[i] + carry[i]) * before[i];
    if (each)
        for (int64_t i = 0; i < n; i++) {
            grad_x[i] = grad[i] + carry[i];
            carry[i] = decay[i] * grad_x[i];
        }
    else
        for (int64_t i = 0; i < n; i++) {
            grad_x[i] = grad[i] + carry[i];
            carry[i] = decay[0] * grad_x[i];
        }
}

#endif
