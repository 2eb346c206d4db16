/* Max-pooling by windows that do not overlap, and its gradient. Of equal numbers the first of a window counts, row by
   row; a NaN counts for more than any number, and a later one for more than an earlier: as torch has it.

   Images are planes [height, width, inner]: one a channel with inner = 1, or, channels last, one an image with the
   channels inside. The place of the largest in its window is kept in a byte. */
#include "native/kernels.h"

typedef struct {
    int64_t planes, height, width, inner, high, wide;
    int32_t threads;
    const real *x, *grad;
    real *y, *grad_x;
    uint8_t *place;
} pool_call;

/* One candidate against the largest so far; `k` is its place. The place is a real, so that one loop has one width. */
#define CHALLENGE(value, k) { \
    const real v_ = (value); \
    const int more_ = (v_ > most) | (v_ != v_); \
    most = more_ ? v_ : most; \
    where = more_ ? (real)(k) : where; \
}

/* A row of the output, by windows of two by two, inner = 1: where networks spend their time. */
SPECIALISED void pairs(const real *restrict a, const real *restrict b, int64_t n, real *restrict y,
                       uint8_t *restrict place) {
    for (int64_t i = 0; i < n; i++) {
        real most = a[2 * i], where = 0;
        CHALLENGE(a[2 * i + 1], 1)
        CHALLENGE(b[2 * i], 2)
        CHALLENGE(b[2 * i + 1], 3)
        y[i] = most;
        place[i] = (uint8_t)(int32_t)where;
    }
}

/* A row of the output: `window` values lie `inner` numbers each, `wide` of them in a row of `row` numbers. */
static void windows(const real *x, int64_t row, int64_t n, int64_t inner, int64_t high, int64_t wide, real *y,
                    uint8_t *place) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < inner; j++) {
            const real *first = x + i * wide * inner + j;
            real most = *first, where = 0;
            for (int64_t dy = 0; dy < high; dy++)
                for (int64_t dx = 0; dx < wide; dx++)
                    CHALLENGE(first[dy * row + dx * inner], dy * wide + dx)
            y[i * inner + j] = most;
            place[i * inner + j] = (uint8_t)(int32_t)where;
        }
    }
}

/* The same for two by two and inner > 1: neighbours are independent. */
static void pairs_inside(const real *a, const real *b, int64_t n, int64_t inner, real *y, uint8_t *place) {
    for (int64_t i = 0; i < n; i++) {
        const real *restrict one = a + 2 * i * inner, *restrict two = b + 2 * i * inner;
        real *restrict out = y + i * inner;
        uint8_t *restrict at = place + i * inner;
        for (int64_t j = 0; j < inner; j++) {
            real most = one[j], where = 0;
            CHALLENGE(one[inner + j], 1)
            CHALLENGE(two[j], 2)
            CHALLENGE(two[inner + j], 3)
            out[j] = most;
            at[j] = (uint8_t)(int32_t)where;
        }
    }
}

void pool_forward(const pool_call *c) {
    const int64_t row = c->width * c->inner, n = c->width / c->wide, lines = c->height / c->high;
    const int two = c->high == 2 && c->wide == 2;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t line = 0; line < c->planes * lines; line++) {
        const real *x = c->x + (line / lines * c->height + line % lines * c->high) * row;
        real *y = c->y + line * n * c->inner;
        uint8_t *place = c->place + line * n * c->inner;
        if (two && c->inner == 1) pairs(x, x + row, n, y, place);
        else if (two) pairs_inside(x, x + row, n, c->inner, y, place);
        else windows(x, row, n, c->inner, c->high, c->wide, y, place);
    }
}

/* Each number of the input belongs to one window, or to none at the ends: written once. */
SPECIALISED void share(const real *restrict grad, const uint8_t *restrict place, int64_t n, int64_t inner, int64_t wide,
                       int first, real *restrict to) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t dx = 0; dx < wide; dx++)
            for (int64_t j = 0; j < inner; j++)
                to[(i * wide + dx) * inner + j] = place[i * inner + j] == first + dx ? grad[i * inner + j] : 0;
}

void pool_backward(const pool_call *c) {
    const int64_t row = c->width * c->inner, n = c->width / c->wide, lines = c->height / c->high;
    const int64_t left = row - n * c->wide * c->inner, below = (c->height - lines * c->high) * row;
    #pragma omp parallel for schedule(static) num_threads(c->threads) if (c->threads > 1)
    for (int64_t line = 0; line < c->planes * lines; line++) {
        const real *grad = c->grad + line * n * c->inner;
        const uint8_t *place = c->place + line * n * c->inner;
        real *to = c->grad_x + (line / lines * c->height + line % lines * c->high) * row;
        for (int64_t dy = 0; dy < c->high; dy++, to += row) {
            const int first = (int)(dy * c->wide);
            if (c->wide == 2 && c->inner == 1) share(grad, place, n, 1, 2, first, to);
            else share(grad, place, n, c->inner, c->wide, first, to);
            if (left) memset(to + row - left, 0, left * sizeof(real));
        }
        if (below && line % lines == lines - 1) memset(to, 0, below * sizeof(real));
    }
}
