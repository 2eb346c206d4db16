/* The recurrent LIF layer over a whole sequence; the equations are in reference.py and sequence.py.

   Forward, W s is a sum of the rows of W transposed that belong to neurons which fired: its cost follows the spikes.
   Samples are independent: a thread takes a group of them through all steps, and works on tiles of columns, so that a
   tile of W, once in cache, serves the whole group. Backward, a step needs the product of a dense gradient with W, which
   a BLAS does better: recurrent_back is what lies between two of those products. */
#include "native/lif.h"

#define GROUP 64
/* Weights of a tile: two thirds of a common first-level cache. */
#define TILE (1 << 13)

/* Sequences are [steps, batch, lif.neurons], v and s0 [batch, neurons], parameters [neurons]; absent ones are NULL. The
   order of the fields is that of spikekit/ops/recurrent/cpu.py. transposed[j] holds the weights from neuron j on. */
typedef struct {
    lif_call lif;
    int64_t batch;
    const real *transposed, *s0;
    real *carry, *next;
} recurrent_call;

typedef struct { int64_t count; int32_t *index; real *value; } events;

static void list(const real *s, events *e, int64_t n) {
    int64_t count = 0;
    if (s)
        /* Written whether it fired or not: a branch that nobody can predict costs more. */
        for (int64_t i = 0; i < n; i++) {
            e->index[count] = (int32_t)i;
            e->value[count] = s[i];
            count += s[i] != 0;
        }
    e->count = count;
}

/* Vectors of 64 bytes, which the compiler cuts to the size that the processor has. */
typedef real wide __attribute__((vector_size(64), aligned(sizeof(real)), may_alias));
#define LANES ((int64_t)(sizeof(wide) / sizeof(real)))

/* sum = Σ value·row over the events, in their order, in registers; rows are `pitch` apart. */
static void gather(const events *e, const real *rows, int64_t pitch, real *restrict sum, int64_t n) {
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        wide a = {0}, b = {0}, c = {0}, d = {0};
        for (int64_t k = 0; k < e->count; k++) {
            const wide *row = (const wide *)(rows + e->index[k] * pitch + i);
            const real value = e->value[k];
            a += value * row[0];
            b += value * row[1];
            c += value * row[2];
            d += value * row[3];
        }
        wide *out = (wide *)(sum + i);
        out[0] = a; out[1] = b; out[2] = c; out[3] = d;
    }
    if (i == n) return;
    memset(sum + i, 0, (n - i) * sizeof(real));
    for (int64_t k = 0; k < e->count; k++) {
        const real *row = rows + e->index[k] * pitch, value = e->value[k];
        for (int64_t j = i; j < n; j++) sum[j] += value * row[j];
    }
}

/* Samples first to first + size - 1 through all steps. scratch: size·neurons values of each kind. */
static void run_group(const recurrent_call *r, int64_t first, int64_t size, real *drive, real *values, int32_t *indices) {
    const lif_call *c = &r->lif;
    const int64_t n = c->neurons, step = r->batch * n, tile = TILE / n < 64 ? 64 : TILE / n / 64 * 64;
    events fired[GROUP];
    for (int64_t b = 0; b < size; b++) {
        fired[b] = (events){ 0, indices + b * n, values + b * n };
        list(AT(r->s0, (first + b) * n), &fired[b], n);
        copy_or_zero(c->v + (first + b) * n, AT(c->v0, (first + b) * n), n);
    }
    for (int64_t t = 0; t < c->steps; t++) {
        for (int64_t from = 0; from < n; from += tile)
            for (int64_t b = 0; b < size; b++)
                gather(&fired[b], r->transposed + from, n, drive + b * n + from, smaller(tile, n - from));
        for (int64_t b = 0; b < size; b++) {
            const int64_t row = t * step + (first + b) * n;
            real *d = drive + b * n;
            for (int64_t i = 0; i < n; i++) d[i] = c->x[row + i] + d[i];
            fire(c, 0, d, c->v + (first + b) * n, AT(c->membranes, row), c->spikes + row, n);
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

static void back_block(const void *call, int64_t at, int64_t n) {
    const recurrent_call *r = call;
    const lif_call *c = &r->lif;
    back(c, at, c->membranes + at, c->grad_spikes + at, r->carry + at, r->next + at, c->grad_x + at, n);
}

/* One step back for all samples, whose neurons lie side by side: lif.neurons is batch·neurons here, lif.membranes
   holds those of the step, grad_spikes what comes from above and from the step after. carry: dL/dv[t] in, dL/dv[t-1] out;
   next: dL/du[t+1] in, dL/du[t] out. Parameter gradients are added to. */
void recurrent_back(const recurrent_call *r) { for_blocks(back_block, r, r->lif.neurons, r->lif.threads, BLOCK); }
