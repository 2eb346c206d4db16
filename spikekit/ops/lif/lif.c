/* The LIF layer over a whole sequence; the equations are in reference.py and, for the gradients, in sequence.py.

   Neurons are independent: they are cut into blocks that stay in cache, and every block runs through all time steps.
   The forward pass keeps no membranes. It keeps v at the start of every chunk of steps but the first, and the backward
   pass, walking the chunks from the last to the first, computes the membranes of a chunk again from its drive. */
#include "native/surrogates.h"

enum reset { SOFT, HARD, NONE };

#define BLOCK 4096
/* Elements of recomputed membranes: half of a common second-level cache. */
#define SCRATCH (1 << 17)

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/lif/cpu.py. With each = 0, beta, threshold and quantum hold one number for all neurons. */
typedef struct {
    int64_t steps, neurons, chunk;
    int32_t threads, each, reset, inclusive, detach, surrogate;
    double numbers[2];
    const real *x, *v0, *beta, *threshold, *quantum;
    real *spikes, *v, *checkpoints;
    const real *grad_spikes, *grad_v;
    real *grad_x, *grad_v0, *grad_beta, *grad_threshold, *grad_quantum;
} lif_call;

SPECIALISED real after_reset(real u, real s, real quantum, int reset) {
    /* Products, not choices: a NaN or an Inf must reach the last v, where it is looked for. */
    return reset == SOFT ? u - quantum * s : reset == HARD ? u * (1 - s) : u;
}

/* One step of n neurons: v becomes the next state; u and s, where wanted, what came before it. */
SPECIALISED void step(const real *restrict x, real *restrict v, const real *restrict beta,
                      const real *restrict threshold, const real *restrict quantum, int each, int reset, int inclusive,
                      real *restrict u_out, real *restrict s_out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real u = beta[i * each] * v[i] + x[i];
        real s = inclusive ? u >= threshold[i * each] : u > threshold[i * each];
        if (u_out) u_out[i] = u;
        if (s_out) s_out[i] = s;
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

static void fire(const lif_call *c, int64_t at, const real *x, real *v, real *s, int64_t n) {
    if (c->each) any_step(c, 1, at, x, v, NULL, s, n);
    else any_step(c, 0, at, x, v, NULL, s, n);
}

static void recompute(const lif_call *c, int64_t at, const real *x, real *v, real *u, int64_t n) {
    if (c->each) any_step(c, 1, at, x, v, u, NULL, n);
    else any_step(c, 0, at, x, v, u, NULL, n);
}

void lif_forward(const lif_call *c) {
    const int64_t blocks = (c->neurons + BLOCK - 1) / BLOCK;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * BLOCK, n = smaller(BLOCK, c->neurons - at);
        real *v = c->v + at;
        if (c->v0) memcpy(v, c->v0 + at, n * sizeof(real));
        else memset(v, 0, n * sizeof(real));
        for (int64_t t = 0; t < c->steps; t++) {
            if (c->checkpoints && t && t % c->chunk == 0)
                memcpy(c->checkpoints + (t / c->chunk - 1) * c->neurons + at, v, n * sizeof(real));
            fire(c, at, c->x + t * c->neurons + at, v, c->spikes + t * c->neurons + at, n);
        }
    }
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

static void back(const lif_call *c, int64_t at, const real *u, real *slope, const real *gs, real *carry, real *next,
                 real *gx, int64_t n) {
    const int learn = c->grad_beta != NULL;
    if (c->each) {
        slopes(c->surrogate, c->numbers, u, c->threshold + at, 1, slope, n);
        if (learn) any_step_back(c, 1, 1, at, u, slope, gs, carry, next, gx, n);
        else any_step_back(c, 1, 0, at, u, slope, gs, carry, next, gx, n);
    } else {
        slopes(c->surrogate, c->numbers, u, c->threshold, 0, slope, n);
        if (learn) any_step_back(c, 0, 1, at, u, slope, gs, carry, next, gx, n);
        else any_step_back(c, 0, 0, at, u, slope, gs, carry, next, gx, n);
    }
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all. Returns 1 when memory is short. */
int lif_backward(const lif_call *c) {
    const int64_t chunk = smaller(c->chunk, c->steps), chunks = (c->steps + chunk - 1) / chunk;
    const int64_t width = smaller(BLOCK, smaller(c->neurons, SCRATCH / chunk)), blocks = (c->neurons + width - 1) / width;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        /* membranes of a chunk, then rows for v, slope, carry, next, and zeros for an absent gradient */
        real *scratch = malloc((chunk + 5) * width * sizeof(real));
        failed = scratch == NULL;
        #pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            if (failed) continue;
            const int64_t at = block * width, n = smaller(width, c->neurons - at);
            real *v = scratch + chunk * width, *slope = v + width, *carry = v + 2 * width, *next = v + 3 * width;
            real *zeros = v + 4 * width;
            memset(next, 0, n * sizeof(real));
            memset(zeros, 0, n * sizeof(real));
            if (c->grad_v) memcpy(carry, c->grad_v + at, n * sizeof(real));
            else memset(carry, 0, n * sizeof(real));
            if (c->grad_beta) {
                memset(c->grad_beta + at, 0, n * sizeof(real));
                memset(c->grad_threshold + at, 0, n * sizeof(real));
                memset(c->grad_quantum + at, 0, n * sizeof(real));
            }
            for (int64_t part = chunks - 1; part >= 0; part--) {
                const int64_t first = part * chunk, last = smaller(c->steps, first + chunk);
                const real *before = part ? c->checkpoints + (part - 1) * c->neurons : c->v0;
                if (before) memcpy(v, before + at, n * sizeof(real));
                else memset(v, 0, n * sizeof(real));
                for (int64_t t = first; t < last; t++)
                    recompute(c, at, c->x + t * c->neurons + at, v, scratch + (t - first) * width, n);
                for (int64_t t = last - 1; t >= first; t--)
                    back(c, at, scratch + (t - first) * width, slope,
                         c->grad_spikes ? c->grad_spikes + t * c->neurons + at : zeros, carry, next,
                         c->grad_x + t * c->neurons + at, n);
            }
            if (c->grad_beta && c->v0)
                for (int64_t i = 0; i < n; i++) c->grad_beta[at + i] += next[i] * c->v0[at + i];
            if (c->grad_v0) memcpy(c->grad_v0 + at, carry, n * sizeof(real));
        }
        free(scratch);
    }
    return failed;
}
