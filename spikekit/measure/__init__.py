"""Measuring networks: how much each layer fires."""

from spikekit.measure.activity import ActivityMeter, LayerActivity

__all__ = ["ActivityMeter", "LayerActivity"]
