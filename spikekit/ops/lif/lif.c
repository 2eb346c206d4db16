/* The LIF layer over a whole sequence; the equations are in reference.py and, for the gradients, in sequence.py.

   Neurons are independent: they are cut into blocks that stay in cache, and every block runs through all time steps.
   The forward pass keeps no membranes. It keeps v at the start of every chunk of steps but the first, and the backward
   pass, walking the chunks from the last to the first, computes the membranes of a chunk again from its drive. */
#include "native/lif.h"

void lif_forward(const lif_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        real *v = c->v + at;
        copy_or_zero(v, c->v0 ? c->v0 + at : NULL, n);
        for (int64_t t = 0; t < c->steps; t++) {
            if (c->checkpoints && t && t % c->chunk == 0)
                memcpy(c->checkpoints + (t / c->chunk - 1) * c->neurons + at, v, n * sizeof(real));
            fire(c, at, c->x + t * c->neurons + at, v, c->spikes + t * c->neurons + at, n);
        }
    }
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all. Returns 1 when memory is short. */
int lif_backward(const lif_call *c) {
    const int64_t chunk = smaller(c->chunk, c->steps), chunks = (c->steps + chunk - 1) / chunk;
    const int64_t width = block_width(c->neurons, c->threads, smaller(BLOCK, SCRATCH / chunk));
    const int64_t blocks = (c->neurons + width - 1) / width;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        /* membranes of a chunk, then rows for v, carry, next, and zeros for an absent gradient */
        real *scratch = malloc((chunk + 4) * width * sizeof(real));
        failed = scratch == NULL;
        #pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            if (failed) continue;
            const int64_t at = block * width, n = smaller(width, c->neurons - at);
            real *v = scratch + chunk * width, *carry = v + width, *next = v + 2 * width, *zeros = v + 3 * width;
            memset(next, 0, n * sizeof(real));
            memset(zeros, 0, n * sizeof(real));
            copy_or_zero(carry, c->grad_v ? c->grad_v + at : NULL, n);
            if (c->grad_beta) {
                memset(c->grad_beta + at, 0, n * sizeof(real));
                memset(c->grad_threshold + at, 0, n * sizeof(real));
                memset(c->grad_quantum + at, 0, n * sizeof(real));
            }
            for (int64_t part = chunks - 1; part >= 0; part--) {
                const int64_t first = part * chunk, last = smaller(c->steps, first + chunk);
                const real *before = part ? c->checkpoints + (part - 1) * c->neurons : c->v0;
                copy_or_zero(v, before ? before + at : NULL, n);
                for (int64_t t = first; t < last; t++)
                    recompute(c, at, c->x + t * c->neurons + at, v, scratch + (t - first) * width, n);
                for (int64_t t = last - 1; t >= first; t--)
                    back(c, at, scratch + (t - first) * width,
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
