/* One step of a tile, back: look at it again, pass the decision, gather what the statistics hand down, pass the norm. */
#ifndef SPIKEKIT_MPBN_BACKWARD_H
#define SPIKEKIT_MPBN_BACKWARD_H

#include "ops/mpbn/sums.h"
#include "ops/mpbn/tile.h"

/* Rows of the backward pass: the mean, scale and shift of the step, and what its normalisation takes from dL/du. */
typedef struct {
    real *mean, *scale, *shift, *level, *tilt, *m;
} bands;

/* d = u - mean, and the surrogate's slope at m. */
static void look(const mpbn_call *c, tile k, const real *u, bands b, real *d, real *slope) {
    for (int64_t r = 0; r < c->rows; r++) {
        const real *restrict in = u + r * c->length + k.at, *restrict mean = b.mean, *restrict scale = b.scale;
        const real *restrict shift = b.shift;
        real *restrict out = d + r * k.n, *restrict m = b.m;
        for (int64_t i = 0; i < k.n; i++) {
            out[i] = in[i] - mean[i];
            m[i] = out[i] * scale[i] + shift[i];
        }
        if (c->each) slopes(c->surrogate, c->numbers, m, c->threshold + place(c, k, r, 1), 1, slope + r * k.n, k.n);
        else slopes(c->surrogate, c->numbers, m, c->threshold, 0, slope + r * k.n, k.n);
    }
}

/* g: the slope in, dL/dm out. carry: dL/dv in, out the part of dL/du that does not pass the decision. later: dL/du[t+1]. */
SPECIALISED void through_decision_each(const mpbn_call *c, tile k, int64_t at, const real *d, bands b, real *g,
                                       real *carry, const real *later, int each, int reset, int detach, int learn) {
    const int inclusive = c->inclusive;
    for (int64_t r = 0; r < c->rows; r++) {
        const int64_t p = place(c, k, r, each), sums = place(c, k, r, 1), off = at + r * c->length + k.at;
        const real *restrict threshold = c->threshold + p, *restrict quantum = c->quantum + p;
        const real *restrict u = c->u + off, *restrict gs = c->grad_spikes + off, *restrict dr = d + r * k.n;
        const real *restrict scale = b.scale, *restrict shift = b.shift, *restrict next = learn ? later + r * k.n : NULL;
        real *restrict gr = g + r * k.n, *restrict cr = carry + r * k.n;
        double *restrict g_beta = learn ? c->grad_beta + sums : NULL;
        double *restrict g_threshold = learn ? c->grad_threshold + sums : NULL;
        double *restrict g_quantum = learn ? c->grad_quantum + sums : NULL;
        for (int64_t i = 0; i < k.n; i++) {
            real q = quantum[i * each], s = fires(dr[i] * scale[i] + shift[i], threshold[i * each], inclusive);
            real through = detach || reset == NONE ? gs[i] : gs[i] - (reset == SOFT ? q : u[i]) * cr[i];
            real gm = gr[i] * through;
            if (learn) {
                g_beta[i] += (double)(next[i] * after_reset(u[i], s, q, reset));
                g_threshold[i] -= (double)gm;
                if (reset == SOFT) g_quantum[i] -= (double)(s * cr[i]);
            }
            gr[i] = gm;
            if (reset == HARD) cr[i] *= 1 - s;
        }
    }
}

SPECIALISED void through_decision_learn(const mpbn_call *c, tile k, int64_t at, const real *d, bands b, real *g,
                                        real *carry, const real *later, int each, int learn) {
    switch (c->reset * 2 + c->detach) {
    case SOFT * 2: through_decision_each(c, k, at, d, b, g, carry, later, each, SOFT, 0, learn); break;
    case SOFT * 2 + 1: through_decision_each(c, k, at, d, b, g, carry, later, each, SOFT, 1, learn); break;
    case HARD * 2: through_decision_each(c, k, at, d, b, g, carry, later, each, HARD, 0, learn); break;
    case HARD * 2 + 1: through_decision_each(c, k, at, d, b, g, carry, later, each, HARD, 1, learn); break;
    default: through_decision_each(c, k, at, d, b, g, carry, later, each, NONE, 1, learn); break;
    }
}

static void through_decision(const mpbn_call *c, tile k, int64_t at, const real *d, bands b, real *g, real *carry,
                             const real *later) {
    switch (c->each * 2 + (c->grad_beta != NULL)) {
    case 0: through_decision_learn(c, k, at, d, b, g, carry, later, 0, 0); break;
    case 1: through_decision_learn(c, k, at, d, b, g, carry, later, 0, 1); break;
    case 2: through_decision_learn(c, k, at, d, b, g, carry, later, 1, 0); break;
    default: through_decision_learn(c, k, at, d, b, g, carry, later, 1, 1); break;
    }
}

/* The sums that the statistics hand down, and the gradients of weight and bias. */
static void gather(const mpbn_call *c, tile k, int64_t t, const real *d, const real *g, bands b, double *sum,
                   double *product) {
    const int64_t groups = groups_of(c, k), at = (c->training ? t * c->groups : 0) + k.group;
    const double count = (double)c->rows * (double)(k.n / groups);
    sum_products(g, d, c->rows, k.n, c->joint, sum, product);
    for (int64_t i = 0; i < groups; i++) {
        const double variance = (double)c->var[at + i] + c->eps;
        c->grad_bias[k.group + i] += sum[i];
        c->grad_weight[k.group + i] += product[i] / sqrt(variance);
        b.level[i] = (real)(c->training ? sum[i] / count : 0);
        b.tilt[i] = (real)(c->training ? product[i] / (variance * count) : 0);
    }
    spread(c, k, b.level);
    spread(c, k, b.tilt);
}

/* carry: what passed beside the decision in, dL/dv[t-1] out; later becomes dL/du[t]. */
SPECIALISED void through_norm_each(const mpbn_call *c, tile k, int64_t at, const real *d, const real *g, bands b,
                                   real *carry, real *later, int each, int learn, int traced) {
    for (int64_t r = 0; r < c->rows; r++) {
        const int64_t off = at + r * c->length + k.at;
        const real *restrict beta = c->beta + place(c, k, r, each), *restrict dr = d + r * k.n, *restrict gr = g + r * k.n;
        const real *restrict scale = b.scale, *restrict level = b.level, *restrict tilt = b.tilt;
        const real *restrict gu = traced ? c->grad_u + off : NULL;
        real *restrict cr = carry + r * k.n, *restrict gx = c->grad_x + off, *restrict next = learn ? later + r * k.n : NULL;
        for (int64_t i = 0; i < k.n; i++) {
            real now = cr[i] + scale[i] * (gr[i] - level[i] - dr[i] * tilt[i]);
            if (traced) now += gu[i];
            gx[i] = now;
            cr[i] = beta[i * each] * now;
            if (learn) next[i] = now;
        }
    }
}

static void through_norm(const mpbn_call *c, tile k, int64_t at, const real *d, const real *g, bands b, real *carry,
                         real *later) {
    switch (c->each * 4 + (c->grad_beta != NULL) * 2 + (c->grad_u != NULL)) {
    case 0: through_norm_each(c, k, at, d, g, b, carry, later, 0, 0, 0); break;
    case 1: through_norm_each(c, k, at, d, g, b, carry, later, 0, 0, 1); break;
    case 2: through_norm_each(c, k, at, d, g, b, carry, later, 0, 1, 0); break;
    case 3: through_norm_each(c, k, at, d, g, b, carry, later, 0, 1, 1); break;
    case 4: through_norm_each(c, k, at, d, g, b, carry, later, 1, 0, 0); break;
    case 5: through_norm_each(c, k, at, d, g, b, carry, later, 1, 0, 1); break;
    case 6: through_norm_each(c, k, at, d, g, b, carry, later, 1, 1, 0); break;
    default: through_norm_each(c, k, at, d, g, b, carry, later, 1, 1, 1); break;
    }
}

/* Before the last step. */
static void clear_sums(const mpbn_call *c, tile k) {
    memset(c->grad_weight + k.group, 0, groups_of(c, k) * sizeof(double));
    memset(c->grad_bias + k.group, 0, groups_of(c, k) * sizeof(double));
    for (int64_t p = 0; c->grad_beta && p < c->period; p++) {
        memset(c->grad_beta + p * c->length + k.at, 0, k.n * sizeof(double));
        memset(c->grad_threshold + p * c->length + k.at, 0, k.n * sizeof(double));
        memset(c->grad_quantum + p * c->length + k.at, 0, k.n * sizeof(double));
    }
}

/* After the first: the decay of the state that was carried in. */
static void first_state(const mpbn_call *c, tile k, const real *later) {
    for (int64_t r = 0; r < c->rows; r++) {
        const real *v0 = c->v0 + r * c->length + k.at;
        double *sum = c->grad_beta + place(c, k, r, 1);
        for (int64_t i = 0; i < k.n; i++) sum[i] += (double)(later[r * k.n + i] * v0[i]);
    }
}

#endif
