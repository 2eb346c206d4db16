"""Checked event streams, and the dense frames and batches made of them. Needs numpy and torch only."""

from spikekit.events.augment import Compose, RandomAffine, RandomDrop, RandomElastic, RandomShift
from spikekit.events.batch import collate_time_first
from spikekit.events.frames import frames_by_count, frames_by_time
from spikekit.events.stream import EventStream

__all__ = [
    "Compose",
    "EventStream",
    "RandomAffine",
    "RandomDrop",
    "RandomElastic",
    "RandomShift",
    "collate_time_first",
    "frames_by_count",
    "frames_by_time",
]
