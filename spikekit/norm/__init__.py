"""Normalisation inside the neuron: parts that plug into `sk.LIF(norm=...)`."""

from spikekit.norm.mpbn import MPBN

__all__ = ["MPBN"]
