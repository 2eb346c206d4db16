/* What all kernels share. REAL is float or double; each has a library of its own, compiled from the same sources. */
#ifndef SPIKEKIT_KERNELS_H
#define SPIKEKIT_KERNELS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef REAL real;

/* With constant arguments, each call of such a function becomes a loop of its own, without branches inside. */
#define SPECIALISED static inline __attribute__((always_inline))

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

#endif
