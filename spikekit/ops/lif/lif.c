/* The LIF layer over a whole sequence; the equations are in reference.py and, for the gradients, in sequence.py.

   Neurons are independent: they are cut into blocks whose rows stay in cache, and every block runs through all time
   steps. Of the forward pass the backward pass needs the membranes and nothing else. */
#include "native/lif.h"

void lif_forward(const lif_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        real *v = c->v + at;
        copy_or_zero(v, c->v0 ? c->v0 + at : NULL, n);
        for (int64_t t = 0; t < c->steps; t++) {
            const int64_t row = t * c->neurons + at;
            fire(c, at, c->x + row, v, c->membranes ? c->membranes + row : NULL, c->spikes + row, n);
        }
    }
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all; grad_v0 always: it carries the scan. */
void lif_backward(const lif_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        real next[BLOCK], *carry = c->grad_v0 + at;
        memset(next, 0, n * sizeof(real));
        copy_or_zero(carry, c->grad_v ? c->grad_v + at : NULL, n);
        if (c->grad_beta) {
            memset(c->grad_beta + at, 0, n * sizeof(real));
            memset(c->grad_threshold + at, 0, n * sizeof(real));
            memset(c->grad_quantum + at, 0, n * sizeof(real));
        }
        for (int64_t t = c->steps - 1; t >= 0; t--) {
            const int64_t row = t * c->neurons + at;
            back(c, at, c->membranes + row, c->grad_spikes + row, carry, next, c->grad_x + row, n);
        }
        if (c->grad_beta && c->v0)
            for (int64_t i = 0; i < n; i++) c->grad_beta[at + i] += next[i] * c->v0[at + i];
    }
}
