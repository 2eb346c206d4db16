"""Measuring networks: how much each layer fires, and what NeuroBench counts."""

from spikekit.measure.activity import ActivityMeter, LayerActivity
from spikekit.measure.neurobench import LayerOperations, NeuroBench, neurobench

__all__ = ["ActivityMeter", "LayerActivity", "LayerOperations", "NeuroBench", "neurobench"]
