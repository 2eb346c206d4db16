/* A linear layer on spikes and the LIF layer behind it, in inference: the drive between them is never stored.

   Samples are cut into blocks, which do not depend on one another: each runs through all time steps, and the drive of a
   step stays in cache until the neurons have read it. The sums are those of ops/linear, in their order. */
#include "native/lif.h"
#include "native/product.h"

/* The order of the fields is that of spikekit/ops/linear_lif/cpu.py. input is [steps, batch, inner]; the neurons of a
   step are [batch, outer]; lif.x is not read. */
typedef struct {
    lif_call lif;
    int64_t batch, inner, outer;
    const real *input, *panels, *bias;
    char *scratch;
} linear_lif_call;

/* Bytes of scratch for each thread. */
int64_t linear_lif_scratch(int64_t inner, int64_t outer) {
    return (list_size(ROWS, smaller(SPAN, inner)) + (ROWS * outer + LANES) * (int64_t)sizeof(real) + 63) / 64 * 64;
}

void linear_lif(const linear_lif_call *c) {
    const lif_call *n = &c->lif;
    const int64_t rows = smaller(ROWS, (c->batch + n->threads - 1) / n->threads), blocks = (c->batch + rows - 1) / rows;
    #pragma omp parallel num_threads(n->threads) if (n->threads > 1)
    {
        char *memory = c->scratch + this_thread() * linear_lif_scratch(c->inner, c->outer);
        const list l = new_list(&memory, ROWS * smaller(SPAN, c->inner));
        real *drive = (real *)memory;
        #pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t top = block * rows, m = smaller(rows, c->batch - top), at = top * c->outer;
            copy_or_zero(n->v + at, AT(n->v0, at), m * c->outer);
            for (int64_t t = 0; t < n->steps; t++) {
                product(c->input + (t * c->batch + top) * c->inner, c->panels, c->bias, drive, m, c->inner, c->outer, l);
                fire(n, at, drive, n->v + at, NULL, n->spikes + t * n->neurons + at, m * c->outer);
            }
        }
    }
}
