"""An astrocyte in integers; what is done with them is in `spikekit.ops.astrocyte.integer`.

In a layer whose astrocyte has domains of so many neurons,

    share  = round(own·2^22 / neurons)       what a spike counts; heard_share that of a presynaptic one
    decay  = round((1 - λ)·4,096)            0 for a time scale of 8,192 steps or more, which is refused
    weight = round(w / Σ|w|·4,096)           z moves from bias - Σ|w < 0| to bias + Σ|w > 0| in 4,096 parts
    table  = round(f(z)·4,096)               at 257 places of that range; f is g, or 2 - g for a threshold

and the membrane of the neurons is that of `quantise.py`: g has no unit.
"""

from __future__ import annotations

import numpy as np

from spikekit.errors import ExportError
from spikekit.export.astrocyte import FloatAstrocyte, IntegerAstrocyte
from spikekit.export.rounding import decay_parts
from spikekit.ops.astrocyte.integer import CALCIUM_ONE, PARTS, SEGMENTS


def quantise_astrocyte(name: str, astrocyte: FloatAstrocyte, neurons: int) -> IntegerAstrocyte:
    """The astrocyte of layer `name`, which has so many neurons. Raises ExportError for calcium that is too slow."""
    decay = decay_parts(astrocyte.decay)
    if (slow := np.argwhere(decay < 1)).size:
        domain, scale = slow[0]
        raise ExportError(
            f"layer {name}: domain {domain} of its Astrocyte has a time scale of "
            f"{-1 / np.log(astrocyte.decay[domain, scale]):,.0f} steps, and a decay on the chip has 12 bits, which "
            "hold less than 8,192 steps. Use shorter time scales."
        )
    size = np.abs(astrocyte.weight).sum(1, keepdims=True)
    weight = np.rint(astrocyte.weight / np.where(size > 0, size, 1) * PARTS).astype(np.int64)
    lowest = astrocyte.bias[:, None] + np.minimum(astrocyte.weight, 0).sum(1, keepdims=True)
    z = lowest + size * np.linspace(0, 1, SEGMENTS + 1)
    g = 1 + astrocyte.strength[:, None] * (z / (1 + np.abs(z)))
    return IntegerAstrocyte(
        acts_on=astrocyte.acts_on,
        share=round(astrocyte.own * CALCIUM_ONE * len(decay) / neurons),
        heard_share=round((1 - astrocyte.own) * CALCIUM_ONE / max(astrocyte.heard, 1)),
        decay=decay,
        weight=weight,
        # The weighed calcium is counted from the lowest that it can be.
        offset=-PARTS * np.minimum(weight, 0).sum(1),
        table=np.rint(PARTS * (g if astrocyte.acts_on == "gain" else 2 - g)).astype(np.int64),
    )
