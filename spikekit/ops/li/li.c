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

void li_forward(const li_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        const real *before = c->v0 ? c->v0 + at : NULL;
        for (int64_t t = 0; t < c->steps; t++) {
            const real *x = c->x + t * c->neurons + at;
            real *v = c->membranes + t * c->neurons + at;
            if (before) integrate(c->beta + at * c->each, c->each, before, x, v, n);
            else memcpy(v, x, n * sizeof(real));
            before = v;
        }
    }
}

/* grad_beta needs the membranes. grad_v0 is always there: it carries the scan. */
void li_backward(const li_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        real *carry = c->grad_v0 + at, *grad_beta = c->grad_beta ? c->grad_beta + at : NULL;
        memset(carry, 0, n * sizeof(real));
        if (grad_beta) memset(grad_beta, 0, n * sizeof(real));
        for (int64_t t = c->steps - 1; t >= 0; t--) {
            const int64_t row = t * c->neurons + at;
            const real *before = !grad_beta ? NULL
                : t ? c->membranes + row - c->neurons
                : c->v0 ? c->v0 + at : NULL;
            integrate_back(c->beta + at * c->each, c->each, before, c->grad + row, carry, c->grad_x + row, grad_beta, n);
        }
    }
}
