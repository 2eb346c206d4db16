"""Run an exported network in Intel's Lava 0.10.0, in an interpreter of its own."""

from __future__ import annotations

from spikekit.export.lava.client import run_job
from spikekit.export.lava.job import LavaJob, LavaResult
from spikekit.export.lava.layer import LavaInput, LavaLayer
from spikekit.export.lava.locate import worker_python

__all__ = ["LavaInput", "LavaJob", "LavaLayer", "LavaResult", "run_job", "worker_python"]
