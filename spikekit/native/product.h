/* Sums of chosen rows of a dense matrix, each times a number: what a product with a matrix of mostly zeros comes to. The
   dense matrix lies in panels, so narrow that the sum of one row of a panel stays in registers and that the rows in use
   stay in the second-level cache. Each number of the result is summed in the same order whatever else is in the batch. */
#ifndef SPIKEKIT_PRODUCT_H
#define SPIKEKIT_PRODUCT_H

#include "native/events.h"

/* Vectors of a panel: with their multiplier they fit the registers. */
#define WIDTH 8
#define PANEL (WIDTH * LANES)
/* Columns of x and rows of x that are listed together. */
#define SPAN 1024
#define ROWS 128
#define CHUNK 512

/* The entries that are not zero, row after row (or column after column): entry j is value[j] at index[j]. */
typedef struct {
    int32_t *index;
    real *value;
    int64_t *start;
} list;

static int64_t list_size(int64_t rows, int64_t columns) {
    return (rows * columns + SLACK) * (int64_t)(sizeof(real) + sizeof(int32_t)) + (SPAN + CHUNK + 8) * 8;
}

static list new_list(char **memory, int64_t entries) {
    list l;
    l.start = (int64_t *)*memory;
    l.value = (real *)(l.start + SPAN + CHUNK + 8);
    l.index = (int32_t *)(l.value + entries + SLACK);
    *memory = (char *)(((uintptr_t)(l.index + entries + SLACK) + 7) & ~(uintptr_t)7);
    return l;
}

/* to = Σ_j value[j] · rows[index[j]] + add, over `width` vectors. to may be add. */
SPECIALISED void sum_rows(const real *rows, const int32_t *index, const real *value, int64_t n, const real *add,
                          real *to, const int width) {
    vec sum[WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < width; i++) sum[i] = (vec){0};
    for (int64_t j = 0; j < n; j++) {
        const real *row = rows + index[j] * (width * LANES);
        const real factor = value[j];
#pragma GCC unroll 8
        for (int i = 0; i < width; i++) sum[i] += factor * *(const vec *)(row + i * LANES);
    }
#pragma GCC unroll 8
    for (int i = 0; i < width; i++) *(vec *)(to + i * LANES) = sum[i] + *(const vec *)(add + i * LANES);
}

static void sum_panel(const real *rows, const int32_t *index, const real *value, int64_t n, const real *add, real *to,
                      int width) {
    switch (width) {
    case 1: sum_rows(rows, index, value, n, add, to, 1); break;
    case 2: sum_rows(rows, index, value, n, add, to, 2); break;
    case 3: sum_rows(rows, index, value, n, add, to, 3); break;
    case 4: sum_rows(rows, index, value, n, add, to, 4); break;
    case 5: sum_rows(rows, index, value, n, add, to, 5); break;
    case 6: sum_rows(rows, index, value, n, add, to, 6); break;
    case 7: sum_rows(rows, index, value, n, add, to, 7); break;
    default: sum_rows(rows, index, value, n, add, to, 8); break;
    }
}

/* Vectors of the panel that begins at a column: the last one may be narrower. */
static int width_at(int64_t column, int64_t columns) {
    return (int)((smaller(PANEL, columns - column) + LANES - 1) / LANES);
}

/* out[m, outer] = x[m, inner] · M + bias, with M [inner, outer] in panels; m <= ROWS. l: room for as many entries. */
static void product(const real *x, const real *panels, const real *bias, real *out, int64_t m, int64_t inner,
                    int64_t outer, list l) {
    for (int64_t first = 0; first < inner; first += SPAN) {
        const int64_t span = smaller(SPAN, inner - first);
        l.start[0] = 0;
        for (int64_t r = 0; r < m; r++)
            l.start[r + 1] = l.start[r] + compress(x + r * inner + first, span, l.index + l.start[r],
                                                   l.value + l.start[r]);
        for (int64_t column = 0; column < outer; column += PANEL) {
            const int64_t n = smaller(PANEL, outer - column);
            const int width = width_at(column, outer), whole = n == width * LANES;
            const real *rows = panels + column * inner + first * width * LANES;
            real start[PANEL] = {0}, edge[PANEL] = {0};
            if (bias) memcpy(start, bias + column, n * sizeof(real));
            for (int64_t r = 0; r < m; r++) {
                real *row = out + r * outer + column, *to = whole ? row : edge;
                if (first && !whole) memcpy(edge, row, n * sizeof(real));
                sum_panel(rows, l.index + l.start[r], l.value + l.start[r], l.start[r + 1] - l.start[r],
                          first ? to : start, to, width);
                if (!whole) memcpy(row, edge, n * sizeof(real));
            }
        }
    }
}

#endif
