"""Pictures: every function draws into matplotlib Axes, `ax` or new ones, and returns them."""

from spikekit.viz.activity import events, membranes, raster
from spikekit.viz.calcium import calcium
from spikekit.viz.detections import detections
from spikekit.viz.forgetting import forgetting
from spikekit.viz.overview import overview

__all__ = ["calcium", "detections", "events", "forgetting", "membranes", "overview", "raster"]
