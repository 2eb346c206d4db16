/* What one call of the MPBN kernels is about, and the tiles that it is cut into. */
#ifndef SPIKEKIT_MPBN_TILE_H
#define SPIKEKIT_MPBN_TILE_H

#include "native/reset.h"
#include "native/surrogates.h"

/* Arrays of time are [steps, rows, length]; v0, v, grad_v, grad_v0 are [rows, length]. With each = 0, beta, threshold
   and quantum hold one number, else [period, length]: row r of a step uses row r % period. weight, bias: [groups].
   mean, var: [steps, groups] in training, written by the forward pass, which moves running_mean and running_var [groups]
   too; [groups] otherwise. Sums are double. Absent arrays are NULL. The order of the fields is that of cpu.py. */
typedef struct {
    int64_t steps, rows, length, groups, period, width;
    int32_t threads, joint, each, training, reset, inclusive, detach, surrogate;
    double numbers[2], eps, momentum;
    const real *x, *v0, *beta, *threshold, *quantum, *weight, *bias;
    real *mean, *var, *running_mean, *running_var, *spikes, *u, *v;
    const real *grad_spikes, *grad_u, *grad_v;
    real *grad_x, *grad_v0;
    double *grad_beta, *grad_threshold, *grad_quantum, *grad_weight, *grad_bias;
} mpbn_call;

/* Columns [at, at + n) of every row, of the groups from `group` on. */
typedef struct {
    int64_t at, n, group;
} tile;

static tile tile_of(const mpbn_call *c, int64_t index) {
    if (c->joint) return (tile){index * c->width, c->width, index};
    return (tile){index * c->width, smaller(c->width, c->length - index * c->width), index * c->width};
}

static int64_t tiles(const mpbn_call *c) { return (c->length + c->width - 1) / c->width; }

static int64_t groups_of(const mpbn_call *c, tile k) { return c->joint ? 1 : k.n; }

/* Where the parameters of row r begin. */
SPECIALISED int64_t place(const mpbn_call *c, tile k, int64_t r, int each) {
    return each ? r % c->period * c->length + k.at : 0;
}

SPECIALISED real fires(real m, real threshold, int inclusive) { return (m > threshold) | (inclusive & (m == threshold)); }

/* One value a group to one a column. */
static void spread(const mpbn_call *c, tile k, real *row) {
    for (int64_t i = 1; c->joint && i < k.n; i++) row[i] = row[0];
}

static void load(const mpbn_call *c, tile k, const real *from, real *to) {
    if (!from) memset(to, 0, c->rows * k.n * sizeof(real));
    for (int64_t r = 0; from && r < c->rows; r++) memcpy(to + r * k.n, from + r * c->length + k.at, k.n * sizeof(real));
}

static void store(const mpbn_call *c, tile k, const real *from, real *to) {
    for (int64_t r = 0; r < c->rows; r++) memcpy(to + r * c->length + k.at, from + r * k.n, k.n * sizeof(real));
}

/* Rows mean, scale, shift of step t: m = (u - mean)·scale + shift. */
static void affine(const mpbn_call *c, tile k, int64_t t, real *mean, real *scale, real *shift) {
    const int64_t at = (c->training ? t * c->groups : 0) + k.group;
    for (int64_t i = 0; i < groups_of(c, k); i++) {
        mean[i] = c->mean[at + i];
        scale[i] = c->weight[k.group + i] / (sizeof(real) == 4 ? (real)sqrtf((float)(c->var[at + i] + (real)c->eps))
                                                               : (real)sqrt((double)(c->var[at + i] + (real)c->eps)));
        shift[i] = c->bias[k.group + i];
    }
    spread(c, k, mean);
    spread(c, k, scale);
    spread(c, k, shift);
}

#endif
