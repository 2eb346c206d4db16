/* Sums of a tile [rows, n] in double, one a column or, when joint, one of all. Four rows at a time, so that the sums pass
   through memory less often. */
#ifndef SPIKEKIT_MPBN_SUMS_H
#define SPIKEKIT_MPBN_SUMS_H

#include "native/kernels.h"

SPECIALISED double square(real a) { return (double)a * a; }

SPECIALISED void join(double *sum, int64_t n, int joint) {
    for (int64_t i = 1; joint && i < n; i++) sum[0] += sum[i];
}

SPECIALISED void sum_values(const real *restrict a, int64_t rows, int64_t n, int joint, double *restrict sum) {
    int64_t r = 0;
    memset(sum, 0, n * sizeof(double));
    for (; r + 4 <= rows; r += 4) {
        const real *a0 = a + r * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
        for (int64_t i = 0; i < n; i++) sum[i] += ((double)a0[i] + a1[i]) + ((double)a2[i] + a3[i]);
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++) sum[i] += a[r * n + i];
    join(sum, n, joint);
}

SPECIALISED void sum_squares(const real *restrict a, const real *restrict mean, int64_t rows, int64_t n, int joint,
                             double *restrict sum) {
    int64_t r = 0;
    memset(sum, 0, n * sizeof(double));
    for (; r + 4 <= rows; r += 4) {
        const real *a0 = a + r * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
        for (int64_t i = 0; i < n; i++)
            sum[i] += (square(a0[i] - mean[i]) + square(a1[i] - mean[i])) +
                      (square(a2[i] - mean[i]) + square(a3[i] - mean[i]));
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++) sum[i] += square(a[r * n + i] - mean[i]);
    join(sum, n, joint);
}

SPECIALISED void sum_products(const real *restrict a, const real *restrict b, int64_t rows, int64_t n, int joint,
                              double *restrict sum, double *restrict product) {
    int64_t r = 0;
    memset(sum, 0, n * sizeof(double));
    memset(product, 0, n * sizeof(double));
    for (; r + 4 <= rows; r += 4) {
        const real *a0 = a + r * n, *a1 = a0 + n, *a2 = a1 + n, *a3 = a2 + n;
        const real *b0 = b + r * n, *b1 = b0 + n, *b2 = b1 + n, *b3 = b2 + n;
        for (int64_t i = 0; i < n; i++) {
            const double d0 = a0[i], d1 = a1[i], d2 = a2[i], d3 = a3[i];
            sum[i] += (d0 + d1) + (d2 + d3);
            product[i] += (d0 * b0[i] + d1 * b1[i]) + (d2 * b2[i] + d3 * b3[i]);
        }
    }
    for (; r < rows; r++)
        for (int64_t i = 0; i < n; i++) {
            sum[i] += a[r * n + i];
            product[i] += (double)a[r * n + i] * b[r * n + i];
        }
    join(sum, n, joint);
    join(product, n, joint);
}

#endif
