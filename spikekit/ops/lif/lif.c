/* The LIF layer over a whole sequence; the equations are in reference.py and, for the gradients, in sequence.py.

   Neurons are independent: they are cut into blocks whose rows stay in cache, and every block runs through all time
   steps. Of the forward pass the backward pass needs the membranes and nothing else. */
#include "native/lif.h"

static void forward(const void *call, int64_t at, int64_t n) {
    const lif_call *c = call;
    real *v = c->v + at;
    copy_or_zero(v, AT(c->v0, at), n);
    for (int64_t t = 0; t < c->steps; t++) {
        const int64_t row = t * c->neurons + at;
        fire(c, at, c->x + row, v, AT(c->membranes, row), c->spikes + row, n);
    }
}

void lif_forward(const lif_call *c) { for_blocks(forward, c, c->neurons, c->threads, BLOCK); }

static void backward(const void *call, int64_t at, int64_t n) {
    const lif_call *c = call;
    real next[BLOCK];
    memset(next, 0, n * sizeof(real));
    begin_backward(c, at, n);
    for (int64_t t = c->steps - 1; t >= 0; t--) {
        const int64_t row = t * c->neurons + at;
        back(c, at, c->membranes + row, c->grad_spikes + row, c->grad_v0 + at, next, c->grad_x + row, n);
    }
    if (c->grad_beta && c->v0)
        for (int64_t i = 0; i < n; i++) c->grad_beta[at + i] += next[i] * c->v0[at + i];
}

void lif_backward(const lif_call *c) { for_blocks(backward, c, c->neurons, c->threads, BLOCK); }
