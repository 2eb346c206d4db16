/* The surrogates of spikekit/surrogate.py: derivative(m) of a row of m = membrane - threshold. */
#ifndef SPIKEKIT_SURROGATES_H
#define SPIKEKIT_SURROGATES_H

#include <math.h>

#include "native/kernels.h"

enum surrogate { ATAN, SIGMOID, FAST_SIGMOID, TRIANGLE, RECTANGLE, STRAIGHT_THROUGH, SECH_BUMP, EXPONENTIAL };

/* e^x for x <= 0 by a polynomial that compilers vectorise, to two units in the last place of float: e^x = 2^k·e^r with
   |r| <= ln(2)/2. Below -87 it is zero to a float. double calls the library. */
static inline float exp_of_negative_f(float x) {
    float clamped = x < -87.0f ? -87.0f : x;
    float k = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = clamped - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float e = p * r * r + r + 1.0f;
    union { int32_t i; float f; } scale = { ((int32_t)k + 127) << 23 };
    return e * scale.f;
}

static inline real exp_of_negative(real x) {
    return sizeof(real) == 4 ? (real)exp_of_negative_f((float)x) : (real)exp((double)x);
}

#define ROW(expression) for (int64_t i = 0; i < n; i++) { real m = u[i] - threshold[i * each]; slope[i] = (expression); }

SPECIALISED void slopes(int kind, const double *numbers, const real *u, const real *threshold, int each, real *slope,
                        int64_t n) {
    const real a = (real)numbers[0], b = (real)numbers[1];
    switch (kind) {
    case ATAN: {
        const real c = (real)(1.5707963267948966 * numbers[0]);
        ROW(a / 2 / (1 + (m * c) * (m * c)))
        break;
    }
    case SIGMOID: /* symmetric: with e = exp(-a|m|) nothing overflows */
        for (int64_t i = 0; i < n; i++) {
            real m = u[i] - threshold[i * each];
            real e = exp_of_negative(-a * (m < 0 ? -m : m));
            slope[i] = a * e / ((1 + e) * (1 + e));
        }
        break;
    case FAST_SIGMOID: {
        ROW(1 / ((1 + a * (m < 0 ? -m : m)) * (1 + a * (m < 0 ? -m : m))))
        break;
    }
    case TRIANGLE:
        for (int64_t i = 0; i < n; i++) {
            real m = u[i] - threshold[i * each];
            real height = 1 - (m < 0 ? -m : m) / a;
            slope[i] = (height > 0 ? height : 0) / a;
        }
        break;
    case RECTANGLE:
        ROW((real)((m < 0 ? -m : m) < a / 2) / a)
        break;
    case STRAIGHT_THROUGH:
        for (int64_t i = 0; i < n; i++) slope[i] = 1;
        break;
    case SECH_BUMP: { /* sech^2(z) = 4e/(1+e)^2 with e = exp(-2|z|) */
        const real height = (real)(numbers[0] / (2 * numbers[1] * tanh(numbers[0] / 2)));
        for (int64_t i = 0; i < n; i++) {
            real m = u[i] - threshold[i * each];
            real size = m < 0 ? -m : m;
            real e = exp_of_negative(-2 * a / b * size);
            slope[i] = (real)(size < b / 2) * height * 4 * e / ((1 + e) * (1 + e));
        }
        break;
    }
    case EXPONENTIAL:
        for (int64_t i = 0; i < n; i++) {
            real m = u[i] - threshold[i * each];
            slope[i] = a / 2 * exp_of_negative(-a * (m < 0 ? -m : m));
        }
        break;
    }
}

#endif
