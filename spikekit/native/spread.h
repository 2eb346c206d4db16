/* Convolutions of images that are mostly zeros: every entry that is not zero adds its weights, one number for each output
   channel, to the few places of the output that see it. Output channels lie innermost, and are filled up to whole
   vectors. Images do not depend on one another, so neither the batch nor the threads change a bit. */
#ifndef SPIKEKIT_SPREAD_H
#define SPIKEKIT_SPREAD_H

#include "native/events.h"

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

static real *new_scratch(const geometry *g, int32_t **index, real **value) {
    const int64_t numbers = g->entries + SLACK;
    real *image = malloc((g->places * g->padded + numbers) * sizeof(real) + numbers * sizeof(int32_t));
    if (!image) return NULL;
    *value = image + g->places * g->padded;
    *index = (int32_t *)(*value + numbers);
    return image;
}

/* sums[places, padded] = image * weights + bias; image: entries in the order of x. */
static void convolve(const conv_call *c, const geometry *g, const real *image, int32_t *index, real *value, real *sums) {
    if (c->bias)
        for (int64_t place = 0; place < g->places; place++) {
            real *row = sums + place * g->padded;
            for (int64_t k = 0; k < c->outer; k++) row[k] = c->bias[k];
            for (int64_t k = c->outer; k < g->padded; k++) row[k] = 0;
        }
    else memset(sums, 0, g->places * g->padded * sizeof(real));
    spread_forward(c, g, index, value, compress(image, g->entries, index, value), sums);
}

/* Rows of `padded` numbers without what fills them up; to may be from. */
static void tighten(const conv_call *c, const geometry *g, const real *from, real *to) {
    for (int64_t place = 0; place < g->places; place++)
        memmove(to + place * c->outer, from + place * g->padded, c->outer * sizeof(real));
}

#endif
