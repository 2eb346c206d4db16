"""Normalisation: inside the neuron (`MPBN`, a part of `sk.LIF(norm=...)`) and before it (`TDBN1d`, `TDBN2d`)."""

from spikekit.norm.mpbn import MPBN
from spikekit.norm.tdbn import TDBN1d, TDBN2d

__all__ = ["MPBN", "TDBN1d", "TDBN2d"]
