/* The recurrent LIF layer, forward, over a whole sequence; the equations are in reference.py.

   W s is a sum of the rows of W transposed that belong to neurons which fired: its cost follows the spikes. Samples are
   independent: a thread takes a group of them through all steps, and works on tiles of columns, so that a tile of W,
   once in cache, serves the whole group. */
#include "native/lif.h"

#define GROUP 64

/* Sequences are [steps, batch, lif.neurons], v and s0 [batch, neurons], parameters [neurons]; absent ones are NULL. The
   order of the fields is that of spikekit/ops/recurrent/cpu.py. transposed[j] holds the weights from neuron j on. */
typedef struct {
    lif_call lif;
    int64_t batch;
    const real *transposed, *s0;
    real *membranes;
} recurrent_call;

typedef struct { int64_t count; int32_t *index; real *value; } events;

static void list(const real *s, events *e, int64_t n) {
    e->count = 0;
    if (s)
        for (int64_t i = 0; i < n; i++)
            if (s[i] != 0) {
                e->index[e->count] = (int32_t)i;
                e->value[e->count++] = s[i];
            }
}

/* sum = Σ value·row over the events, in their order; rows are `pitch` apart. */
static void gather(const events *e, const real *rows, int64_t pitch, real *restrict sum, int64_t n) {
    memset(sum, 0, n * sizeof(real));
    int64_t k = 0;
    for (; k + 4 <= e->count; k += 4) {
        const real *a = rows + e->index[k] * pitch, *b = rows + e->index[k + 1] * pitch;
        const real *c = rows + e->index[k + 2] * pitch, *d = rows + e->index[k + 3] * pitch;
        const real p = e->value[k], q = e->value[k + 1], r = e->value[k + 2], s = e->value[k + 3];
        for (int64_t i = 0; i < n; i++) sum[i] = sum[i] + p * a[i] + q * b[i] + r * c[i] + s * d[i];
    }
    for (; k < e->count; k++) {
        const real *a = rows + e->index[k] * pitch, p = e->value[k];
        for (int64_t i = 0; i < n; i++) sum[i] += p * a[i];
    }
}

static void advance(const lif_call *c, const real *x, real *v, real *u, real *s) {
    if (c->each) any_step(c, 1, 0, x, v, u, s, c->neurons);
    else any_step(c, 0, 0, x, v, u, s, c->neurons);
}

/* Samples first to first + size - 1 through all steps. scratch: size·neurons values of each kind. */
static void run_group(const recurrent_call *r, int64_t first, int64_t size, real *drive, real *values, int32_t *indices) {
    const lif_call *c = &r->lif;
    const int64_t n = c->neurons, step = r->batch * n, tile = SCRATCH / n < 64 ? 64 : SCRATCH / n;
    events fired[GROUP];
    for (int64_t b = 0; b < size; b++) {
        fired[b] = (events){ 0, indices + b * n, values + b * n };
        list(r->s0 ? r->s0 + (first + b) * n : NULL, &fired[b], n);
        copy_or_zero(c->v + (first + b) * n, c->v0 ? c->v0 + (first + b) * n : NULL, n);
    }
    for (int64_t t = 0; t < c->steps; t++) {
        for (int64_t from = 0; from < n; from += tile)
            for (int64_t b = 0; b < size; b++)
                gather(&fired[b], r->transposed + from, n, drive + b * n + from, smaller(tile, n - from));
        for (int64_t b = 0; b < size; b++) {
            const int64_t row = t * step + (first + b) * n;
            real *d = drive + b * n;
            for (int64_t i = 0; i < n; i++) d[i] = c->x[row + i] + d[i];
            advance(c, d, c->v + (first + b) * n, r->membranes ? r->membranes + row : NULL, c->spikes + row);
            list(c->spikes + row, &fired[b], n);
        }
    }
}

/* Returns 1 when memory is short. */
int recurrent_forward(const recurrent_call *r) {
    const lif_call *c = &r->lif;
    const int64_t share = (r->batch + c->threads - 1) / c->threads, size = smaller(GROUP, share);
    const int64_t groups = (r->batch + size - 1) / size, room = size * c->neurons;
    int failed = 0;
    #pragma omp parallel num_threads(c->threads) if (c->threads > 1) reduction(|:failed)
    {
        real *scratch = malloc(room * (2 * sizeof(real) + sizeof(int32_t)));
        failed = scratch == NULL;
        #pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; group++) {
            const int64_t first = group * size;
            if (!failed)
                run_group(r, first, smaller(size, r->batch - first), scratch, scratch + room, (int32_t *)(scratch + 2 * room));
        }
        free(scratch);
    }
    return failed;
}
