/* What all kernels share. REAL is float or double; each has a library of its own, compiled from the same sources. */
#ifndef SPIKEKIT_KERNELS_H
#define SPIKEKIT_KERNELS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef REAL real;

/* With constant arguments, each call of such a function becomes a loop of its own, without branches inside. */
#define SPECIALISED static inline __attribute__((always_inline))

/* Neurons that run through all time steps together. Their state stays in the second-level cache, and their rows are
   long: each lies in pages of its own, and with an eighth of them a step takes a quarter longer. */
#define BLOCK 32768

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Where the values of neuron `at` lie; NULL where there are none. */
#define AT(row, at) ((row) ? (row) + (at) : NULL)

/* n values of a row, or zeros where there is none. */
static inline void copy_or_zero(real *to, const real *from, int64_t n) {
    if (from) memcpy(to, from, n * sizeof(real));
    else memset(to, 0, n * sizeof(real));
}

/* What is done with the neurons at, ..., at + n - 1, which depend on no others. */
typedef void block_work(const void *call, int64_t at, int64_t n);

/* Neurons of a block: `most`, or fewer where a narrow layer would leave threads without one; whole cache lines. */
static inline int64_t block_width(int64_t neurons, int64_t threads, int64_t most) {
    const int64_t share = (neurons + threads - 1) / threads, line = 16;
    return smaller(most, (share + line - 1) / line * line);
}

/* The work on all neurons, in blocks that the threads share. */
static inline void for_blocks(block_work *work, const void *call, int64_t neurons, int64_t threads, int64_t most) {
    const int64_t width = block_width(neurons, threads, most), blocks = (neurons + width - 1) / width;
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t block = 0; block < blocks; block++)
        work(call, block * width, smaller(width, neurons - block * width));
}

/* F(a, b) with two flags as constants. */
#define BY_FLAGS(a, b, F) \
    if ((a) && (b)) { F(1, 1); } \
    else if (a) { F(1, 0); } \
    else if (b) { F(0, 1); } \
    else { F(0, 0); }

#endif
