/* Products with a matrix x that is mostly zeros, as spikes are: only what is not zero is read and multiplied.

   x·M takes the rows of M that a row of x names, and xᵀ·G the rows of G that a column of x names. The result does not
   depend on how many threads there are, either. */
#include "native/product.h"

/* x is [rows, inner]; the dense matrix has `outer` columns. The order of the fields is that of
   spikekit/ops/linear/cpu.py. */
typedef struct {
    int64_t rows, inner, outer;
    int32_t threads;
    const real *x, *panels, *bias;
    real *out, *sums;
    char *scratch;
} linear_call;

int64_t linear_panel(void) { return PANEL; }

/* Bytes of scratch for each thread, for x of so many columns. */
int64_t linear_scratch(int64_t inner) { return (2 * list_size(CHUNK, smaller(SPAN, inner)) + 63) / 64 * 64; }

/* How many numbers are not zero in `sample` of the rows of x, spread over all of them. */
int64_t linear_count(const real *x, int64_t rows, int64_t inner, int64_t sample) {
    int64_t total = 0;
    double place = 0;
    for (int64_t i = 0; i < sample; i++) {
        const real *row = x + (sample == rows ? i : (int64_t)(place * rows)) * inner;
        int64_t count = 0;
        for (int64_t k = 0; k < inner; k++) count += row[k] != 0;
        total += count;
        /* Steps of the golden ratio never fall in with the batch, as equal steps through [T, B] might. */
        place += 0.6180339887498949;
        if (place >= 1) place -= 1;
    }
    return total;
}

/* A dense matrix [rows, columns], given by its strides, into panels: each holds all rows of PANEL
   columns, one row after the other, filled up with zeros to whole vectors. Returns 1 when a number is not finite: zero
   times such a number is not zero, so that the product needs all of x. */
int linear_pack(const real *from, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride, real *panels,
                int32_t threads) {
    const int64_t tile = 64, tiles = (rows + tile - 1) / tile, count = (columns + PANEL - 1) / PANEL;
    int bad = 0;
    #pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if (threads > 1) reduction(|:bad)
    for (int64_t panel = 0; panel < count; panel++)
        for (int64_t part = 0; part < tiles; part++) {
            const int64_t column = panel * PANEL, n = smaller(PANEL, columns - column), first = part * tile;
            const int64_t m = smaller(tile, rows - first), wide = width_at(column, columns) * LANES;
            const real *source = from + first * row_stride + column * column_stride;
            real *to = panels + column * rows + first * wide;
            if (column_stride == 1)
                for (int64_t r = 0; r < m; r++) memcpy(to + r * wide, source + r * row_stride, n * sizeof(real));
            else
                for (int64_t c = 0; c < n; c++)
                    for (int64_t r = 0; r < m; r++) to[r * wide + c] = source[c * column_stride + r * row_stride];
            for (int64_t r = 0; r < m; r++)
                for (int64_t c = n; c < wide; c++) to[r * wide + c] = 0;
            int found = 0;
            for (int64_t i = 0; i < m * wide; i++) found |= !(to[i] - to[i] == 0);
            bad |= found;
        }
    return bad;
}

/* out[rows, outer] = x · M + bias, with M [inner, outer] in panels. */
void linear_product(const linear_call *c) {
    const int64_t blocks = (c->rows + ROWS - 1) / ROWS;
    const int64_t share = linear_scratch(c->inner), most = smaller(SPAN, c->inner);
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1)
    {
        char *memory = c->scratch + this_thread() * share;
        const list l = new_list(&memory, ROWS * most);
        #pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t top = block * ROWS, m = smaller(ROWS, c->rows - top);
            product(c->x + top * c->inner, c->panels, c->bias, c->out + top * c->outer, m, c->inner, c->outer, l);
        }
    }
}

/* The list of m rows of x from columns [first, first + span), then the same by column: entry j is x at row index[j]. */
static void list_columns(const real *x, int64_t stride, int64_t m, int64_t span, list by_row, list by_column) {
    int64_t *end = by_column.start;
    memset(end, 0, (span + 1) * sizeof(int64_t));
    by_row.start[0] = 0;
    for (int64_t r = 0; r < m; r++) {
        const int64_t at = by_row.start[r], n = compress(x + r * stride, span, by_row.index + at, by_row.value + at);
        for (int64_t j = at; j < at + n; j++) end[by_row.index[j] + 1]++;
        by_row.start[r + 1] = at + n;
    }
    for (int64_t k = 0; k < span; k++) end[k + 1] += end[k];
    /* end[k] walks from the start of column k to its end, which is the start of column k + 1. */
    for (int64_t r = 0; r < m; r++)
        for (int64_t j = by_row.start[r]; j < by_row.start[r + 1]; j++) {
            const int64_t to = end[by_row.index[j]]++;
            by_column.index[to] = (int32_t)r;
            by_column.value[to] = by_row.value[j];
        }
}

/* out[outer, inner] = (xᵀ · G)ᵀ, with G [rows, outer] in panels; sums holds xᵀ · G in the same panels meanwhile. */
void linear_outer(const linear_call *c) {
    const int64_t least = (c->inner + c->threads - 1) / c->threads, width_k = smaller(SPAN, (least + 15) / 16 * 16);
    const int64_t parts = (c->inner + width_k - 1) / width_k;
    const int64_t share = linear_scratch(c->inner), most = smaller(SPAN, c->inner);
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1)
    {
        char *memory = c->scratch + this_thread() * share;
        const list by_row = new_list(&memory, CHUNK * most), by_column = new_list(&memory, CHUNK * most);
        #pragma omp for schedule(dynamic)
        for (int64_t part = 0; part < parts; part++) {
            const int64_t first = part * width_k, span = smaller(width_k, c->inner - first);
            for (int64_t column = 0; column < c->outer; column += PANEL) {
                const int64_t wide = width_at(column, c->outer) * LANES;
                memset(c->sums + column * c->inner + first * wide, 0, span * wide * sizeof(real));
            }
            for (int64_t top = 0; top < c->rows; top += CHUNK) {
                list_columns(c->x + top * c->inner + first, c->inner, smaller(CHUNK, c->rows - top), span, by_row,
                             by_column);
                for (int64_t column = 0; column < c->outer; column += PANEL) {
                    const int width = width_at(column, c->outer);
                    const real *rows = c->panels + column * c->rows + top * width * LANES;
                    real *sums = c->sums + column * c->inner + first * width * LANES;
                    for (int64_t k = 0, at = 0; k < span; k++) {
                        const int64_t n = by_column.start[k] - at;
                        real *sum = sums + k * width * LANES;
                        if (n) sum_panel(rows, by_column.index + at, by_column.value + at, n, sum, sum, width);
                        at += n;
                    }
                }
            }
            for (int64_t n = 0; n < c->outer; n++) {
                const int64_t column = n / PANEL * PANEL, wide = width_at(column, c->outer) * LANES;
                const real *sum = c->sums + column * c->inner + first * wide + (n - column);
                for (int64_t k = 0; k < span; k++) c->out[n * c->inner + first + k] = sum[k * wide];
            }
        }
    }
}
