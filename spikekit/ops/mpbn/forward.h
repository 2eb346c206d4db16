/* One step of a tile, forward: charge, measure where it is training, decide. */
#ifndef SPIKEKIT_MPBN_FORWARD_H
#define SPIKEKIT_MPBN_FORWARD_H

#include "ops/mpbn/sums.h"
#include "ops/mpbn/tile.h"

/* v becomes u. */
SPECIALISED void charge_each(const mpbn_call *c, tile k, const real *restrict x, real *restrict v, real *restrict u,
                             int each) {
    for (int64_t r = 0; r < c->rows; r++) {
        const real *beta = c->beta + place(c, k, r, each), *drive = x + r * c->length + k.at;
        real *row = v + r * k.n;
        for (int64_t i = 0; i < k.n; i++) row[i] = beta[i * each] * row[i] + drive[i];
        if (u) memcpy(u + r * c->length + k.at, row, k.n * sizeof(real));
    }
}

static void charge(const mpbn_call *c, tile k, const real *x, real *v, real *u) {
    if (c->each) charge_each(c, k, x, v, u, 1);
    else charge_each(c, k, x, v, u, 0);
}

/* v, which holds u, becomes the state after the reset. */
SPECIALISED void decide_each(const mpbn_call *c, tile k, real *restrict v, const real *restrict mean,
                             const real *restrict scale, const real *restrict shift, real *restrict s, int each,
                             int reset) {
    const int inclusive = c->inclusive;
    for (int64_t r = 0; r < c->rows; r++) {
        const int64_t p = place(c, k, r, each);
        const real *threshold = c->threshold + p, *quantum = c->quantum + p;
        real *row = v + r * k.n, *out = s + r * c->length + k.at;
        for (int64_t i = 0; i < k.n; i++) {
            real m = (row[i] - mean[i]) * scale[i] + shift[i];
            real spike = fires(m, threshold[i * each], inclusive);
            out[i] = spike;
            row[i] = after_reset(row[i], spike, quantum[i * each], reset);
        }
    }
}

static void decide(const mpbn_call *c, tile k, real *v, const real *mean, const real *scale, const real *shift, real *s) {
    switch (c->reset * 2 + c->each) {
    case SOFT * 2: decide_each(c, k, v, mean, scale, shift, s, 0, SOFT); break;
    case SOFT * 2 + 1: decide_each(c, k, v, mean, scale, shift, s, 1, SOFT); break;
    case HARD * 2: decide_each(c, k, v, mean, scale, shift, s, 0, HARD); break;
    case HARD * 2 + 1: decide_each(c, k, v, mean, scale, shift, s, 1, HARD); break;
    case NONE * 2: decide_each(c, k, v, mean, scale, shift, s, 0, NONE); break;
    default: decide_each(c, k, v, mean, scale, shift, s, 1, NONE); break;
    }
}

/* Mean and variance of step t, and the running ones moved by them. */
static void measure(const mpbn_call *c, tile k, int64_t t, const real *u, real *mean, double *sum) {
    const int64_t groups = groups_of(c, k), at = t * c->groups + k.group;
    const double count = (double)c->rows * (double)(k.n / groups);
    sum_values(u, c->rows, k.n, c->joint, sum);
    for (int64_t i = 0; i < groups; i++) mean[i] = c->mean[at + i] = (real)(sum[i] / count);
    spread(c, k, mean);
    sum_squares(u, mean, c->rows, k.n, c->joint, sum);
    for (int64_t i = 0; i < groups; i++) {
        real *running_mean = c->running_mean + k.group + i, *running_var = c->running_var + k.group + i;
        c->var[at + i] = (real)(sum[i] / count);
        *running_mean += (real)c->momentum * (mean[i] - *running_mean);
        *running_var += (real)c->momentum * ((real)(sum[i] / (count - 1)) - *running_var);
    }
}

#endif
