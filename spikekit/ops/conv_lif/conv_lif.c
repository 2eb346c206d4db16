/* A convolution of spikes and the LIF layer behind it, in inference: the drive between them is never stored.

   Samples do not depend on one another: each runs through all time steps, and the drive of a step stays in cache until
   the neurons have read it. The sums are those of ops/conv, in their order. */
#include "native/lif.h"
#include "native/spread.h"

/* The order of the fields is that of spikekit/ops/conv_lif/cpu.py. Images are [steps, batch] of those of ops/conv; the
   neurons of a step are [batch, out_height, out_width, outer]. lif.x and conv.out are not used. */
typedef struct {
    lif_call lif;
    conv_call conv;
} conv_lif_call;

/* Returns 1 when memory is short. */
int conv_lif(const conv_lif_call *call) {
    const conv_call *c = &call->conv;
    const lif_call *n = &call->lif;
    const geometry g = new_geometry(c);
    const int64_t size = g.places * c->outer, batch = c->images / n->steps;
    int failed = g.sights == NULL;
    if (failed) return failed;
    #pragma omp parallel num_threads(n->threads) if (n->threads > 1) reduction(|:failed)
    {
        int32_t *index = NULL;
        real *value = NULL, *drive = new_scratch(&g, &index, &value);
        failed |= drive == NULL;
        #pragma omp for schedule(static)
        for (int64_t sample = 0; sample < batch; sample++) {
            if (!drive) continue;
            const int64_t at = sample * size;
            copy_or_zero(n->v + at, AT(n->v0, at), size);
            for (int64_t t = 0; t < n->steps; t++) {
                convolve(c, &g, c->x + (t * batch + sample) * g.entries, index, value, drive);
                if (g.padded != c->outer) tighten(c, &g, drive, drive);
                fire(n, at, drive, n->v + at, NULL, n->spikes + t * n->neurons + at, size);
            }
        }
        free(drive);
    }
    free(g.sights);
    return failed;
}
