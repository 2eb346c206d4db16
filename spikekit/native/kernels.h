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

/* n values of a row, or zeros where there is none. */
static inline void copy_or_zero(real *to, const real *from, int64_t n) {
    if (from) memcpy(to, from, n * sizeof(real));
    else memset(to, 0, n * sizeof(real));
}

/* Neurons of a block: `most`, or fewer where a narrow layer would leave threads without one; whole cache lines. */
static inline int64_t block_width(int64_t neurons, int64_t threads, int64_t most) {
    const int64_t share = (neurons + threads - 1) / threads, line = 16;
    return smaller(most, (share + line - 1) / line * line);
}

#endif
