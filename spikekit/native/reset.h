/* What a spike does to the membrane: spikekit/ops/lif/reference.py. */
#ifndef SPIKEKIT_RESET_H
#define SPIKEKIT_RESET_H

#include "native/kernels.h"

enum reset { SOFT, HARD, NONE };

SPECIALISED real after_reset(real u, real s, real quantum, int reset) {
    /* Products, not choices: a NaN or an Inf must reach the last v, where it is looked for. */
    return reset == SOFT ? u - quantum * s : reset == HARD ? u * (1 - s) : u;
}

#endif
