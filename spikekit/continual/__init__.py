"""Continual learning: the next task without forgetting the last.

    hlop = sk.continual.HLOP(net, units="pmnist")
    for task in tasks:
        hlop.begin_task()
        optimizer = torch.optim.SGD(hlop.parameters(), lr=0.1)
        for x, y in task:                                              # x [T, B, ...]
            hlop.step(x, partial(CrossEntropy(), target=y), optimizer, sk.learning.OTTT())
        hlop.end_task()

`Method` is what they have in common: `Plain`, `HLOP`, `GPM`, `EWC`, `Replay`. `permuted`, `split_images`,
`split_frames` and `mixed` make a `Protocol` of data sets; `Course` takes a method through one, and goes on where it was
killed.
"""

from spikekit.continual.batch import Batch
from spikekit.continual.course import Course, Moment
from spikekit.continual.ewc import EWC
from spikekit.continual.gpm import GPM
from spikekit.continual.growth import PRESETS, ByVariance, Schedule
from spikekit.continual.hlop import HLOP
from spikekit.continual.lateral import Hebbian, Lateral, Spiking
from spikekit.continual.method import Method, Plain
from spikekit.continual.metrics import (
    average_accuracy,
    backward_transfer,
    curve,
    forgetting,
    learning_accuracy,
)
from spikekit.continual.protocols import mixed, permuted, split_frames, split_images
from spikekit.continual.replay import Replay
from spikekit.continual.samples import Protocol, Samples, Task
from spikekit.continual.subspace import Subspace

__all__ = [
    "EWC",
    "GPM",
    "HLOP",
    "PRESETS",
    "Batch",
    "ByVariance",
    "Course",
    "Hebbian",
    "Lateral",
    "Method",
    "Moment",
    "Plain",
    "Protocol",
    "Replay",
    "Samples",
    "Schedule",
    "Spiking",
    "Subspace",
    "Task",
    "average_accuracy",
    "backward_transfer",
    "curve",
    "forgetting",
    "learning_accuracy",
    "mixed",
    "permuted",
    "split_frames",
    "split_images",
]
