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

void sigma_delta_forward(const sigma_delta_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK / 4), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at), p = c->each ? at : 0;
        const real *threshold = c->threshold + p, *bias = c->bias + p;
        real *sigma = c->sigma + at, *act = c->act + at, *residue = c->residue + at;
        for (int64_t t = 0; t < c->steps; t++) {
            const int64_t row = t * c->neurons + at;
            const real *x = c->x + row;
            real *s = c->spikes + row, *kept = c->activations ? c->activations + row : NULL;
            if (c->each && kept) step(c, x, threshold, bias, sigma, act, residue, kept, s, 1, n);
            else if (c->each) step(c, x, threshold, bias, sigma, act, residue, NULL, s, 1, n);
            else if (kept) step(c, x, threshold, bias, sigma, act, residue, kept, s, 0, n);
            else step(c, x, threshold, bias, sigma, act, residue, NULL, s, 0, n);
        }
    }
}

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

SPECIALISED void any_step_back(const real *act, const real *gs, const real *after, const real *end, real *gx, real *gv,
                               real *gb, int relu, int64_t n) {
    if (after && gb) step_back(act, gs, after, NULL, gx, gv, gb, relu, n);
    else if (after) step_back(act, gs, after, NULL, gx, gv, NULL, relu, n);
    else if (end && gb) step_back(act, gs, NULL, end, gx, gv, gb, relu, n);
    else if (end) step_back(act, gs, NULL, end, gx, gv, NULL, relu, n);
    else if (gb) step_back(act, gs, NULL, NULL, gx, gv, gb, relu, n);
    else step_back(act, gs, NULL, NULL, gx, gv, NULL, relu, n);
}

void sigma_delta_backward(const sigma_delta_call *c) {
    const int64_t width = block_width(c->neurons, c->threads, BLOCK / 4), blocks = (c->neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * width, n = smaller(width, c->neurons - at);
        const real *end = c->grad_act ? c->grad_act + at : NULL;
        real *bias = c->grad_bias ? c->grad_bias + at : NULL, *sigma = c->grad_sigma + at;
        for (int64_t t = c->steps - 1; t >= 0; t--) {
            const int64_t row = t * c->neurons + at;
            const real *act = c->activations + row, *gs = c->grad_spikes + row;
            const real *after = t + 1 < c->steps ? gs + c->neurons : NULL;
            if (c->relu) any_step_back(act, gs, after, end, c->grad_x + row, sigma, bias, 1, n);
            else any_step_back(act, gs, after, end, c->grad_x + row, sigma, bias, 0, n);
        }
    }
}
