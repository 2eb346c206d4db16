"""The astrocyte of a layer, in the plan and in integers; `astrocyte_rounding.py` makes the one of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikekit.ops.astrocyte.integer import CALCIUM_ONE, PARTS, SEGMENTS

_ANY = float(np.finfo(np.float64).max)
_REAL: dict[str, tuple[float, float]] = {
    "decay": (0, 1),
    "weight": (-_ANY, _ANY),
    "bias": (-_ANY, _ANY),
    "strength": (-1, 1),
}
_WHOLE: dict[str, tuple[float, float]] = {
    "decay": (0, PARTS),
    "weight": (-PARTS, PARTS),
    "offset": (0, 2**31 - 1),
    "table": (0, 2 * PARTS),
}


@dataclass(frozen=True, eq=False)
class FloatAstrocyte:
    """Of a layer of the plan. acts_on: "gain" or "threshold". own: the share of the neurons' own spikes in what it
    senses, 1, 0.5 or 0. heard: presynaptic neurons of a domain, 0 where own is 1. Float64: decay (λ), weight
    [domains, K], bias, strength [domains].
    """

    acts_on: str
    own: float
    heard: int
    decay: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class IntegerAstrocyte:
    """Of an integer layer, as in `spikekit.ops.astrocyte.integer`. Int64: decay, weight [domains, K], offset [domains],
    table [domains, 257].
    """

    acts_on: str
    share: int
    heard_share: int
    decay: NDArray[np.int64]
    weight: NDArray[np.int64]
    offset: NDArray[np.int64]
    table: NDArray[np.int64]


def misfit(astrocyte: FloatAstrocyte | IntegerAstrocyte, neurons: int, senses: bool) -> str | None:
    """What is wrong with an astrocyte over so many neurons, None where nothing is. senses: presynaptic spikes."""
    if astrocyte.acts_on not in ("gain", "threshold"):
        return f"acts_on {astrocyte.acts_on!r} is neither 'gain' nor 'threshold'"
    own: float
    if isinstance(astrocyte, IntegerAstrocyte):
        own, heard, ranges, dtype = astrocyte.share, astrocyte.heard_share, _WHOLE, "int64"
        sound = all(type(share) is int and 0 <= share <= CALCIUM_ONE for share in (own, heard)) and own + heard > 0
    else:
        own, heard, ranges, dtype = astrocyte.own, astrocyte.heard, _REAL, "float64"
        sound = 0 <= own <= 1 and type(heard) is int and (heard > 0) == (own < 1)
    if not sound or (heard > 0) != senses:
        return f"{own} and {heard} of what it senses do not go with {'some' if senses else 'no'} presynaptic spikes"
    shape = np.shape(astrocyte.decay)
    if len(shape) != 2 or 0 in shape or neurons % shape[0]:
        return f"decay has the shape {shape}, which is not [domains, K] with domains that divide {neurons} neurons"
    shapes = {"decay": shape, "weight": shape, "table": (shape[0], SEGMENTS + 1)}
    for name, (low, high) in ranges.items():
        values, wanted = np.asarray(getattr(astrocyte, name)), shapes.get(name, shape[:1])
        if values.shape != wanted or values.dtype != dtype:
            return f"{name} is {values.dtype} of the shape {values.shape}, not {dtype} of {wanted}"
        if not ((low <= values) & (values <= high)).all():
            return f"{name} is not between {low:g} and {high:g}"
    return None
