/* The leaky integrator over a whole sequence; the equations are in sequence.py. The gradient of the drive needs nothing
   of the forward pass: it is a scan from the last step to the first. */
#include "native/li.h"

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/li/cpu.py. With each = 0, beta holds one number for all neurons. */
typedef struct {
    int64_t steps, neurons;
    int32_t threads, each;
    const real *x, *v0, *beta;
    real *membranes;
    const real *grad;
    real *grad_x, *grad_v0, *grad_beta;
} li_call;

static void forward(const void *call, int64_t at, int64_t n) {
    const li_call *c = call;
    const real *before = AT(c->v0, at);
    for (int64_t t = 0; t < c->steps; t++) {
        const real *x = c->x + t * c->neurons + at;
        real *v = c->membranes + t * c->neurons + at;
        if (before) integrate(c->beta + at * c->each, c->each, before, x, v, n);
        else memcpy(v, x, n * sizeof(real));
        before = v;
    }
}

void li_forward(const li_call *c) { for_blocks(forward, c, c->neurons, c->threads, BLOCK); }

static void backward(const void *call, int64_t at, int64_t n) {
    const li_call *c = call;
    real *carry = c->grad_v0 + at, *grad_beta = AT(c->grad_beta, at);
    copy_or_zero(carry, NULL, n);
    if (grad_beta) copy_or_zero(grad_beta, NULL, n);
    for (int64_t t = c->steps - 1; t >= 0; t--) {
        const int64_t row = t * c->neurons + at;
        const real *before = !grad_beta ? NULL : t ? c->membranes + row - c->neurons : AT(c->v0, at);
        integrate_back(c->beta + at * c->each, c->each, before, c->grad + row, carry, c->grad_x + row, grad_beta, n);
    }
}

/* grad_beta needs the membranes. grad_v0 is always there: it carries the scan. */
void li_backward(const li_call *c) { for_blocks(backward, c, c->neurons, c->threads, BLOCK); }
