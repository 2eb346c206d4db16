/* The sigma-delta neuron over a whole sequence; the equations are in reference.py and sequence.py. */
#include "native/kernels.h"

/* Arrays of time are [steps, neurons], all others [neurons]; absent ones are NULL. The order of the fields is that of
   spikekit/ops/sigma_delta/cpu.py. With each = 0, threshold and bias hold one number for all neurons. sigma, act and
   residue: the state before, which becomes that after. Backward, grad_sigma is dL/dsigma after the last step, and
   becomes that before the first. */
typedef struct {
    int64_t steps, neurons;
    int32_t threads, each, relu;
    const real *x, *threshold, *bias;
    real *spikes, *activations, *sigma, *act, *residue;
    const real *grad_spikes, *grad_act;
    real *grad_x, *grad_sigma, *grad_bias;
} sigma_delta_call;

SPECIALISED void step(const sigma_delta_call *c, const real *restrict x, const real *restrict threshold,
                      const real *restrict bias, real *restrict sigma, real *restrict act, real *restrict residue,
                      real *restrict act_out, real *restrict s_out, int each, int64_t n) {
    const int relu = c->relu;
    for (int64_t i = 0; i < n; i++) {
        real sum = sigma[i] + x[i];
        real raw = sum + bias[i * each];
        /* Not the other way round: NaN stays. */
        real now = relu & (raw < 0) ? 0 : raw;
        real delta = (now - act[i]) + residue[i];
        real size = delta < 0 ? -delta : delta;
        real sent = size >= threshold[i * each] ? delta : 0;
        sigma[i] = sum;
        act[i] = now;
        residue[i] = delta - sent;
        s_out[i] = sent;
        if (act_out) act_out[i] = now;
    }
}

static void forward(const void *call, int64_t at, int64_t n) {
    const sigma_delta_call *c = call;
    const int64_t p = c->each ? at : 0;
    for (int64_t t = 0; t < c->steps; t++) {
        const int64_t row = t * c->neurons + at;
        real *kept = AT(c->activations, row);
#define STEP(each, keep) \
    step(c, c->x + row, c->threshold + p, c->bias + p, c->sigma + at, c->act + at, c->residue + at, \
         keep ? kept : NULL, c->spikes + row, each, n)
        BY_FLAGS(c->each, kept, STEP)
#undef STEP
    }
}

void sigma_delta_forward(const sigma_delta_call *c) { for_blocks(forward, c, c->neurons, c->threads, BLOCK / 4); }

/* One step back. after: dL/ds of the next step; at the last step, where there is none, end: dL/dact there. */
SPECIALISED void step_back(const real *restrict act, const real *restrict grad_s, const real *restrict after,
                           const real *restrict end, real *restrict grad_x, real *restrict g_sigma,
                           real *restrict g_bias, int relu, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        real g = after ? grad_s[i] - after[i] : end ? grad_s[i] + end[i] : grad_s[i];
        if (relu) g *= (real)(act[i] > 0);
        if (g_bias) g_bias[i] += g;
        g_sigma[i] += g;
        grad_x[i] = g_sigma[i];
    }
}

static void backward(const void *call, int64_t at, int64_t n) {
    const sigma_delta_call *c = call;
    const real *end = AT(c->grad_act, at);
    for (int64_t t = c->steps - 1; t >= 0; t--) {
        const int64_t row = t * c->neurons + at;
        const real *gs = c->grad_spikes + row, *after = t + 1 < c->steps ? gs + c->neurons : NULL;
#define BACK(after, end, relu, learn) \
    step_back(c->activations + row, gs, after, end, c->grad_x + row, c->grad_sigma + at, \
              learn ? c->grad_bias + at : NULL, relu, n)
#define STEP_BACK(relu, learn) \
    if (after) BACK(after, NULL, relu, learn); \
    else if (end) BACK(NULL, end, relu, learn); \
    else BACK(NULL, NULL, relu, learn)
        BY_FLAGS(c->relu, c->grad_bias, STEP_BACK)
    }
}

void sigma_delta_backward(const sigma_delta_call *c) { for_blocks(backward, c, c->neurons, c->threads, BLOCK / 4); }
