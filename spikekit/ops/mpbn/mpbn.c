/* The LIF layer whose decision sees a normalised membrane, over a whole sequence; the equations are in reference.py and,
   for the gradients, in sequence.py.

   A step is [rows, length]. Where each column is a group of its own (dense layers, channels last, one group an element)
   a tile is `width` columns; where a group is `length / groups` adjoining columns (channels first) it is one group, and
   `joint` is set. A tile runs through all time steps with its state in cache. Each step takes the mean first and the
   variance around it, both summed in double whatever REAL is: in any order they round to the same float, all but never
   to its neighbour, so that the kernels decide as the reference does. Tiles and threads do not change the order. */
#include "ops/mpbn/backward.h"
#include "ops/mpbn/forward.h"

/* Both return 1 when memory is short. */
int mpbn_forward(const mpbn_call *c) {
    const int64_t step = c->rows * c->length, area = c->rows * c->width, row = c->width;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        double *sum = malloc(row * sizeof(double) + (area + 3 * row) * sizeof(real));
        failed = sum == NULL;
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < tiles(c); index++) {
            if (failed) continue;
            const tile k = tile_of(c, index);
            real *v = (real *)(sum + row), *mean = v + area, *scale = mean + row, *shift = scale + row;
            load(c, k, c->v0, v);
            if (!c->training) affine(c, k, 0, mean, scale, shift);
            for (int64_t t = 0; t < c->steps; t++) {
                charge(c, k, c->x + t * step, v, c->u ? c->u + t * step : NULL);
                if (c->training) {
                    measure(c, k, t, v, mean, sum);
                    affine(c, k, t, mean, scale, shift);
                }
                decide(c, k, v, mean, scale, shift, c->spikes + t * step);
            }
            store(c, k, v, c->v);
        }
        free(sum);
    }
    return failed;
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all. */
int mpbn_backward(const mpbn_call *c) {
    const int64_t step = c->rows * c->length, area = c->rows * c->width, row = c->width;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        double *sum = malloc(2 * row * sizeof(double) + (4 * area + 6 * row) * sizeof(real));
        failed = sum == NULL;
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < tiles(c); index++) {
            if (failed) continue;
            const tile k = tile_of(c, index);
            real *carry = (real *)(sum + 2 * row), *d = carry + area, *g = d + area, *later = g + area, *rows = later + area;
            const bands b = {rows, rows + row, rows + 2 * row, rows + 3 * row, rows + 4 * row, rows + 5 * row};
            load(c, k, c->grad_v, carry);
            if (c->grad_beta) load(c, k, NULL, later);
            clear_sums(c, k);
            if (!c->training) affine(c, k, 0, b.mean, b.scale, b.shift);
            for (int64_t t = c->steps - 1; t >= 0; t--) {
                if (c->training) affine(c, k, t, b.mean, b.scale, b.shift);
                look(c, k, c->u + t * step, b, d, g);
                through_decision(c, k, t * step, d, b, g, carry, later);
                gather(c, k, t, d, g, b, sum, sum + row);
                through_norm(c, k, t * step, d, g, b, carry, later);
            }
            if (c->grad_beta && c->v0) first_state(c, k, later);
            if (c->grad_v0) store(c, k, carry, c->grad_v0);
        }
        free(sum);
    }
    return failed;
}
