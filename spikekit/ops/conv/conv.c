/* Convolution of images that are mostly zeros: every entry that is not zero adds its weights, one number for each output
   channel, to the few places of the output that see it. Output channels lie innermost, and are filled up to whole
   vectors. Images do not depend on one another, so neither the batch nor the threads change a bit. */
#include "native/events.h"

/* Parts of the batch that have a sum of the gradient each: their number decides how it rounds, threads do not. */
#define PARTS 16

/* x is [images, channels, height, width] with an image dense in one of two orders; weights [channels, high, wide,
   padded], where padded is `outer` up to whole vectors. out and grad have strides in elements. The order of the fields is
   that of spikekit/ops/conv/cpu.py. */
typedef struct {
    int64_t images, channels, height, width, outer, high, wide, out_height, out_width;
    int64_t stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
    int64_t out_image, out_channel, out_y, out_x;
    int32_t threads, channels_last;
    const real *x, *weights, *bias;
    real *out;
    const real *grad;
    real *sums;
} conv_call;

int64_t conv_lanes(void) { return LANES; }
int64_t conv_parts(void) { return PARTS; }

/* Where an entry is seen: the tap whose weights begin at `weight` sees it from the output place that begins at `out`. */
typedef struct {
    int32_t weight, out;
} sight;

/* What all images share. Entry i of an image belongs to channel channel[i] of the input place place[i], whose sights are
   sights[first[place] .. first[place + 1]). */
typedef struct {
    int64_t padded, entries, places;
    int32_t *place, *channel, *first;
    sight *sights;
} geometry;

/* The sights of input place (y, x), written where `to` points unless that is NULL; returns how many. */
static int32_t find_sights(const conv_call *c, int64_t padded, int64_t y, int64_t x, sight *to) {
    int32_t count = 0;
    for (int64_t a = 0; a < c->high; a++) {
        const int64_t top = y + c->padding_y - a * c->dilation_y;
        if (top < 0 || top % c->stride_y || top / c->stride_y >= c->out_height) continue;
        for (int64_t b = 0; b < c->wide; b++) {
            const int64_t left = x + c->padding_x - b * c->dilation_x;
            if (left < 0 || left % c->stride_x || left / c->stride_x >= c->out_width) continue;
            if (to)
                to[count] = (sight){(int32_t)((a * c->wide + b) * padded),
                                    (int32_t)((top / c->stride_y * c->out_width + left / c->stride_x) * padded)};
            count++;
        }
    }
    return count;
}

/* With sights = NULL when memory is short. */
static geometry new_geometry(const conv_call *c) {
    geometry g = {.padded = (c->outer + LANES - 1) / LANES * LANES,
                  .entries = c->channels * c->height * c->width,
                  .places = c->out_height * c->out_width};
    const int64_t seen = c->height * c->width;
    int64_t count = 0;
    for (int64_t i = 0; i < seen; i++) count += find_sights(c, g.padded, i / c->width, i % c->width, NULL);
    g.sights = malloc(count * sizeof(sight) + (2 * g.entries + seen + 1) * sizeof(int32_t));
    if (!g.sights) return g;
    g.place = (int32_t *)(g.sights + count);
    g.channel = g.place + g.entries;
    g.first = g.channel + g.entries;
    g.first[0] = 0;
    for (int64_t i = 0; i < seen; i++)
        g.first[i + 1] = g.first[i] + find_sights(c, g.padded, i / c->width, i % c->width, g.sights + g.first[i]);
    for (int64_t i = 0; i < g.entries; i++) {
        const int64_t channel = c->channels_last ? i % c->channels : i / seen;
        g.place[i] = (int32_t)(c->channels_last ? i / c->channels : i % seen);
        g.channel[i] = (int32_t)(channel * c->high * c->wide * g.padded);
    }
    return g;
}

/* target += value · source over `width` vectors, for every entry of an image and every place that sees it. With forward,
   from the weights to the places; without, from the places to the weights. */
SPECIALISED void spread(const geometry *g, const int32_t *index, const real *value, int64_t n, const real *source,
                        real *target, const int forward, const int64_t width) {
    for (int64_t j = 0; j < n; j++) {
        const int32_t i = index[j];
        const real factor = value[j];
        const real *from = source + (forward ? g->channel[i] : 0);
        real *to = target + (forward ? 0 : g->channel[i]);
        const sight *seen = g->sights + g->first[g->place[i]], *end = g->sights + g->first[g->place[i] + 1];
        for (; seen < end; seen++) {
            const real *at = from + (forward ? seen->weight : seen->out);
            real *sum = to + (forward ? seen->out : seen->weight);
            for (int64_t k = 0; k < width; k++) *(vec *)(sum + k * LANES) += factor * *(const vec *)(at + k * LANES);
        }
    }
}

static void spread_forward(const conv_call *c, const geometry *g, const int32_t *index, const real *value, int64_t n,
                           real *sums) {
    switch (g->padded / LANES) {
    case 1: spread(g, index, value, n, c->weights, sums, 1, 1); break;
    case 2: spread(g, index, value, n, c->weights, sums, 1, 2); break;
    case 4: spread(g, index, value, n, c->weights, sums, 1, 4); break;
    default: spread(g, index, value, n, c->weights, sums, 1, g->padded / LANES); break;
    }
}

static void spread_back(const geometry *g, const int32_t *index, const real *value, int64_t n, const real *grad,
                        real *sums) {
    switch (g->padded / LANES) {
    case 1: spread(g, index, value, n, grad, sums, 0, 1); break;
    case 2: spread(g, index, value, n, grad, sums, 0, 2); break;
    case 4: spread(g, index, value, n, grad, sums, 0, 4); break;
    default: spread(g, index, value, n, grad, sums, 0, g->padded / LANES); break;
    }
}

static real *new_scratch(const geometry *g, int32_t **index, real **value) {
    const int64_t numbers = g->entries + SLACK;
    real *image = malloc((g->places * g->padded + numbers) * sizeof(real) + numbers * sizeof(int32_t));
    if (!image) return NULL;
    *value = image + g->places * g->padded;
    *index = (int32_t *)(*value + numbers);
    return image;
}

/* out = x * weights + bias. Returns 1 when memory is short. */
int conv_forward(const conv_call *c) {
    const geometry g = new_geometry(c);
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
            for (int64_t place = 0; place < g.places; place++)
                for (int64_t k = 0; k < g.padded; k++)
                    sums[place * g.padded + k] = c->bias && k < c->outer ? c->bias[k] : 0;
            const int64_t n = compress(c->x + image * g.entries, g.entries, index, value);
            spread_forward(c, &g, index, value, n, sums);
            for (int64_t place = 0; place < g.places; place++)
                memcpy(c->out + (image * g.places + place) * c->outer, sums + place * g.padded, c->outer * sizeof(real));
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
