/* The LIF layer whose decision sees a normalised membrane, over a whole sequence; the equations are in reference.py and,
   for the gradients, in sequence.py.

   A step is [rows, length]. Where each column is a group of its own (dense layers, channels last, one group an element)
   a tile is `width` columns; where a group is `length / groups` adjoining columns (channels first) it is one group, and
   `joint` is set. A tile runs through all time steps with its state in cache. Each step takes the mean first and the
   variance around it, both summed in double whatever REAL is: in any order they round to the same float, all but never
   to its neighbour, so that the kernels decide as the reference does. Tiles and threads do not change the order. */
#include "native/reset.h"
#include "native/surrogates.h"

/* Arrays of time are [steps, rows, length]; v0, v, grad_v, grad_v0 are [rows, length]. With each = 0, beta, threshold
   and quantum hold one number, else [period, length]: row r of a step uses row r % period. weight, bias: [groups].
   mean, var: [steps, groups] in training, written by the forward pass, which moves running_mean and running_var [groups]
   too; [groups] otherwise. Sums are double. Absent arrays
   are NULL. The order of the fields is that of spikekit/ops/mpbn/cpu.py. */
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

SPECIALISED double square(real a) { return (double)a * a; }

SPECIALISED void join(double *sum, int64_t n, int joint) {
    for (int64_t i = 1; joint && i < n; i++) sum[0] += sum[i];
}

/* Sums of a tile [rows, n], a column or, when joint, all of it. Four rows at a time, so that the sums pass through memory
   less often. */
SPECIALISED void sum_values(const real *restrict a, int64_t rows, int64_t n, int joint, double *restrict sum) {
    int64_t r = 0;
    memset(sum, 0, n * sizeof(double));
    for (; r + 4 <= rows; r += 4) {
        const real *a0 = a + r * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
        for (int64_t i = 0; i < n; i++) sum[i] += ((double)a0[i] + a1[i]) + ((double)a2[i] + a3[i]);
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++) sum[i] += a[r * n + i];
    join(sum, n, joint);
}

SPECIALISED void sum_squares(const real *restrict a, const real *restrict mean, int64_t rows, int64_t n, int joint,
                             double *restrict sum) {
    int64_t r = 0;
    memset(sum, 0, n * sizeof(double));
    for (; r + 4 <= rows; r += 4) {
        const real *a0 = a + r * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
        for (int64_t i = 0; i < n; i++)
            sum[i] += (square(a0[i] - mean[i]) + square(a1[i] - mean[i])) +
                      (square(a2[i] - mean[i]) + square(a3[i] - mean[i]));
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++) sum[i] += square(a[r * n + i] - mean[i]);
    join(sum, n, joint);
}

SPECIALISED void sum_products(const real *restrict a, const real *restrict b, int64_t rows, int64_t n, int joint,
                              double *restrict sum, double *restrict product) {
    int64_t r = 0;
    memset(sum, 0, n * sizeof(double));
    memset(product, 0, n * sizeof(double));
    for (; r + 4 <= rows; r += 4) {
        const real *a0 = a + r * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
        const real *b0 = b + r * n, *b1 = b0 + n, *b2 = b1 + n, *b3 = b2 + n;
        for (int64_t i = 0; i < n; i++) {
            const double d0 = a0[i], d1 = a1[i], d2 = a2[i], d3 = a3[i];
            sum[i] += (d0 + d1) + (d2 + d3);
            product[i] += (d0 * b0[i] + d1 * b1[i]) + (d2 * b2[i] + d3 * b3[i]);
        }
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++) {
            sum[i] += a[r * n + i];
            product[i] += (double)a[r * n + i] * b[r * n + i];
        }
    join(sum, n, joint);
    join(product, n, joint);
}

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

/* Both return 1 when memory is short. */
int mpbn_forward(const mpbn_call *c) {
    const int64_t step = c->rows * c->length, area = c->rows * c->width, row = c->width;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        double *sum = malloc(row * sizeof(double) + (area + 3 * row) * sizeof(real));
        failed = sum == NULL;
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < tiles(c); index++) {
            if (failed) continue;
            const tile k = tile_of(c, index);
            real *v = (real *)(sum + row), *mean = v + area, *scale = mean + row, *shift = scale + row;
            load(c, k, c->v0, v);
            if (!c->training) affine(c, k, 0, mean, scale, shift);
            for (int64_t t = 0; t < c->steps; t++) {
                charge(c, k, c->x + t * step, v, c->u ? c->u + t * step : NULL);
                if (c->training) {
                    measure(c, k, t, v, mean, sum);
                    affine(c, k, t, mean, scale, shift);
                }
                decide(c, k, v, mean, scale, shift, c->spikes + t * step);
            }
            store(c, k, v, c->v);
        }
        free(sum);
    }
    return failed;
}

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

static void clear_sums(const mpbn_call *c, tile k) {
    memset(c->grad_weight + k.group, 0, groups_of(c, k) * sizeof(double));
    memset(c->grad_bias + k.group, 0, groups_of(c, k) * sizeof(double));
    for (int64_t p = 0; c->grad_beta && p < c->period; p++) {
        memset(c->grad_beta + p * c->length + k.at, 0, k.n * sizeof(double));
        memset(c->grad_threshold + p * c->length + k.at, 0, k.n * sizeof(double));
        memset(c->grad_quantum + p * c->length + k.at, 0, k.n * sizeof(double));
    }
}

static void first_state(const mpbn_call *c, tile k, const real *later) {
    for (int64_t r = 0; r < c->rows; r++) {
        const real *v0 = c->v0 + r * c->length + k.at;
        double *sum = c->grad_beta + place(c, k, r, 1);
        for (int64_t i = 0; i < k.n; i++) sum[i] += (double)(later[r * k.n + i] * v0[i]);
    }
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all. */
int mpbn_backward(const mpbn_call *c) {
    const int64_t step = c->rows * c->length, area = c->rows * c->width, row = c->width;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        double *sum = malloc(2 * row * sizeof(double) + (4 * area + 6 * row) * sizeof(real));
        failed = sum == NULL;
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < tiles(c); index++) {
            if (failed) continue;
            const tile k = tile_of(c, index);
            real *carry = (real *)(sum + 2 * row), *d = carry + area, *g = d + area, *later = g + area, *rows = later + area;
            const bands b = {rows, rows + row, rows + 2 * row, rows + 3 * row, rows + 4 * row, rows + 5 * row};
            load(c, k, c->grad_v, carry);
            if (c->grad_beta) load(c, k, NULL, later);
            clear_sums(c, k);
            if (!c->training) affine(c, k, 0, b.mean, b.scale, b.shift);
            for (int64_t t = c->steps - 1; t >= 0; t--) {
                if (c->training) affine(c, k, t, b.mean, b.scale, b.shift);
                look(c, k, c->u + t * step, b, d, g);
                through_decision(c, k, t * step, d, b, g, carry, later);
                gather(c, k, t, d, g, b, sum, sum + row);
                through_norm(c, k, t * step, d, g, b, carry, later);
            }
            if (c->grad_beta && c->v0) first_state(c, k, later);
            if (c->grad_v0) store(c, k, carry, c->grad_v0);
        }
        free(sum);
    }
    return failed;
}
