/* The convolution of images that are mostly zeros, and the gradient of its weights. */
#include "native/spread.h"

/* Parts of the batch that have a sum of the gradient each: their number decides how it rounds, threads do not. */
#define PARTS 16

int64_t conv_lanes(void) { return LANES; }
int64_t conv_parts(void) { return PARTS; }

static void spread_back(const geometry *g, const int32_t *index, const real *value, int64_t n, const real *grad,
                        real *sums) {
    switch (g->padded / LANES) {
    case 1: spread(g, index, value, n, grad, sums, 0, 1); break;
    case 2: spread(g, index, value, n, grad, sums, 0, 2); break;
    case 4: spread(g, index, value, n, grad, sums, 0, 4); break;
    default: spread(g, index, value, n, grad, sums, 0, g->padded / LANES); break;
    }
}

/* out = x * weights + bias. Returns 1 when memory is short. */
int conv_forward(const conv_call *c) {
    const geometry g = new_geometry(c);
    const int64_t size = g.places * c->outer;
    int failed = g.sights == NULL;
    if (failed) return failed;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        int32_t *index = NULL;
        real *value = NULL, *sums = new_scratch(&g, &index, &value);
        failed |= sums == NULL;
        #pragma omp for schedule(static)
        for (int64_t image = 0; image < c->images; image++) {
            if (!sums) continue;
            real *out = c->out + image * size, *to = g.padded == c->outer ? out : sums;
            convolve(c, &g, c->x + image * g.entries, index, value, to);
            if (to != out) tighten(c, &g, sums, out);
        }
        free(sums);
    }
    free(g.sights);
    return failed;
}

/* sums[0 .. channels · high · wide · padded) = the gradient of the weights, in their order; sums has room for PARTS of
   these. Returns 1 when memory is short, 2 when grad holds a NaN or an Inf, which zeros of x must not hide. */
int conv_weight_gradient(const conv_call *c) {
    const geometry g = new_geometry(c);
    const int64_t size = c->channels * c->high * c->wide * g.padded, share = (c->images + PARTS - 1) / PARTS;
    const int64_t parts = (c->images + share - 1) / share;
    int failed = g.sights == NULL;
    if (failed) return failed;
    memset(c->sums, 0, parts * size * sizeof(real));
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        int32_t *index = NULL;
        real *value = NULL, *grad = new_scratch(&g, &index, &value);
        failed |= grad == NULL;
        if (grad) memset(grad, 0, g.places * g.padded * sizeof(real));
        #pragma omp for schedule(dynamic)
        for (int64_t part = 0; part < parts; part++)
            for (int64_t image = part * share; image < smaller(c->images, (part + 1) * share) && grad; image++) {
                int bad = 0;
                for (int64_t y = 0; y < c->out_height; y++)
                    for (int64_t x = 0; x < c->out_width; x++) {
                        const real *from = c->grad + image * c->out_image + y * c->out_y + x * c->out_x;
                        real *to = grad + (y * c->out_width + x) * g.padded;
                        if (c->out_channel == 1) memcpy(to, from, c->outer * sizeof(real));
                        else for (int64_t k = 0; k < c->outer; k++) to[k] = from[k * c->out_channel];
                    }
                for (int64_t i = 0; i < g.places * g.padded; i++) bad |= !(grad[i] - grad[i] == 0);
                failed |= 2 * bad;
                const int64_t n = compress(c->x + image * g.entries, g.entries, index, value);
                spread_back(&g, index, value, n, grad, c->sums + part * size);
            }
        free(grad);
    }
    for (int64_t part = 1; part < parts; part++)
        for (int64_t i = 0; i < size; i++) c->sums[i] += c->sums[part * size + i];
    free(g.sights);
    return failed;
}
