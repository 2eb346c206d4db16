/* The neuron of Loihi in fixed point over a whole sequence; the equations are in reference.py.

   All of it fits 32 bits: |v| < 2^23, |u| <= 2^23 and |bias| < 2^23 sum to less than 2^25, what arrives is below 2^30 where
   a current is kept, and the product of a decay is taken in two parts, |v| = 4096·high + low, so that
   |v|·keep >> 12  =  high·keep + (low·keep >> 12). */
#include "native/reset.h"

#define STATE_MAX 8388607
#define WRAP 8388608

/* Arrays of time are [steps, neurons], those of a step [neurons], with each sample's neurons together; parameters are
   [each], one sample's neurons. The order of the fields is that of spikekit/ops/integer/cpu.py. */
typedef struct {
    int64_t steps, neurons, each;
    int32_t threads, shift, reset, inclusive, fires;
    const real *sums;
    const int32_t *bias, *keep, *threshold, *quantum, *keep_current;
    real *spikes;
    int32_t *membranes, *v, *currents;
} integer_call;

SPECIALISED int32_t clip(int32_t v) { return v > STATE_MAX ? STATE_MAX : v < -STATE_MAX ? -STATE_MAX : v; }

SPECIALISED int32_t decayed(int32_t v, int32_t keep) {
    const int32_t size = v < 0 ? -v : v, kept = (size >> 12) * keep + ((size & 4095) * keep >> 12);
    return v < 0 ? -kept : kept;
}

SPECIALISED int32_t wrapped(int32_t u) {
    u = u > WRAP ? u - 2 * WRAP : u;
    return u <= -WRAP ? u + 2 * WRAP : u;
}

/* One step of the currents that are kept. */
SPECIALISED void current_step(const real *restrict sums, int32_t *restrict currents, const int32_t *restrict bias,
                              const int32_t *restrict keep, int shift, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const int32_t arriving = (int32_t)sums[i] * (1 << shift);
        currents[i] = wrapped(decayed(currents[i], keep[i]) + arriving + bias[i]);
    }
}

/* currents, where they are kept, hold what arrives, and sums do otherwise. */
SPECIALISED void step(const real *restrict sums, const int32_t *restrict currents, int32_t *restrict state,
                      const int32_t *restrict bias, const int32_t *restrict keep, const int32_t *restrict threshold,
                      const int32_t *restrict quantum, int shift, int reset, int inclusive, int fires,
                      real *restrict spikes, int32_t *restrict membranes, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const int32_t u = currents ? currents[i] : wrapped((int32_t)sums[i] * (1 << shift)) + bias[i];
        int32_t v = clip(decayed(state[i], keep[i]) + u);
        if (membranes) membranes[i] = v;
        if (fires) {
            const int32_t s = inclusive ? v >= threshold[i] : v > threshold[i];
            spikes[i] = s;
            v = reset == SOFT ? clip(v - quantum[i] * s) : reset == HARD ? v * (1 - s) : v;
        }
        state[i] = v;
    }
}

SPECIALISED void any_step(const integer_call *c, int64_t p, const real *a, const int32_t *i, int32_t *v, real *s,
                          int32_t *u, int64_t n) {
    const int32_t *b = c->bias + p, *k = c->keep + p, *h = c->threshold + p, *q = c->quantum + p;
    if (!c->fires) { step(a, i, v, b, k, h, q, c->shift, NONE, 0, 0, s, u, n); return; }
    switch (c->reset * 2 + c->inclusive) {
    case SOFT * 2: step(a, i, v, b, k, h, q, c->shift, SOFT, 0, 1, s, u, n); break;
    case SOFT * 2 + 1: step(a, i, v, b, k, h, q, c->shift, SOFT, 1, 1, s, u, n); break;
    case HARD * 2: step(a, i, v, b, k, h, q, c->shift, HARD, 0, 1, s, u, n); break;
    case HARD * 2 + 1: step(a, i, v, b, k, h, q, c->shift, HARD, 1, 1, s, u, n); break;
    case NONE * 2: step(a, i, v, b, k, h, q, c->shift, NONE, 0, 1, s, u, n); break;
    default: step(a, i, v, b, k, h, q, c->shift, NONE, 1, 1, s, u, n); break;
    }
}

/* spikes is absent when nothing fires, membranes when nobody asks for them, currents where none is kept. */
void integer_forward(const integer_call *c) {
    const int64_t parts = (c->each + BLOCK - 1) / BLOCK, blocks = c->neurons / c->each * parts;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t p = block % parts * BLOCK, at = block / parts * c->each + p, n = smaller(BLOCK, c->each - p);
        int32_t *v = c->v + at;
        int32_t *currents = c->currents ? c->currents + at : NULL;
        memset(v, 0, n * sizeof(int32_t));
        if (currents) memset(currents, 0, n * sizeof(int32_t));
        for (int64_t t = 0; t < c->steps; t++) {
            const int64_t row = t * c->neurons + at;
            real *s = c->spikes ? c->spikes + row : NULL;
            int32_t *u = c->membranes ? c->membranes + row : NULL;
            if (currents) {
                current_step(c->sums + row, currents, c->bias + p, c->keep_current + p, c->shift, n);
                any_step(c, p, NULL, currents, v, s, u, n);
            } else if (u) any_step(c, p, c->sums + row, NULL, v, s, u, n);
            else any_step(c, p, c->sums + row, NULL, v, s, NULL, n);
        }
    }
}
