/* What kernels share that read only what is not zero: vectors of the processor's width, and lists of entries. */
#ifndef SPIKEKIT_EVENTS_H
#define SPIKEKIT_EVENTS_H

#include "native/kernels.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif

/* Loads may be unaligned: rows of the result are as wide as the layer. */
typedef real vec __attribute__((vector_size(VECTOR), aligned(sizeof(real)), may_alias));

#define LANES ((int64_t)(VECTOR / sizeof(real)))
/* What compress may write beyond the last entry. */
#define SLACK 16

static inline int this_thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

#if defined(__AVX512F__)
/* Compressed in a register, then stored whole: the instruction that compresses into memory is slow on some processors. */
static int64_t compress_float(const float *x, int64_t n, int32_t *index, float *value) {
    int64_t count = 0, k = 0;
    __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (; k + 16 <= n; k += 16, at = _mm512_add_epi32(at, _mm512_set1_epi32(16))) {
        __m512 v = _mm512_loadu_ps(x + k);
        __mmask16 set = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32(set, at));
        _mm512_storeu_ps(value + count, _mm512_maskz_compress_ps(set, v));
        count += __builtin_popcount(set);
    }
    for (; k < n; k++)
        if (x[k] != 0) index[count] = (int32_t)k, value[count++] = x[k];
    return count;
}
#endif

/* The entries of x[0..n) that are not zero, in order; a NaN is not zero. */
static int64_t compress(const real *x, int64_t n, int32_t *index, real *value) {
#if defined(__AVX512F__)
    if (sizeof(real) == sizeof(float)) return compress_float((const float *)x, n, index, (float *)value);
#endif
    int64_t count = 0;
    /* Without a branch: whether a neuron fires cannot be predicted. */
    for (int64_t k = 0; k < n; k++) {
        index[count] = (int32_t)k;
        value[count] = x[k];
        count += x[k] != 0;
    }
    return count;
}

#endif
