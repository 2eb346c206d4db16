"""Training: a Trainer with checkpoints that go on exactly, readout losses, saving and loading of weights."""

from spikekit.train.checkpoint import load_weights, read_config, save
from spikekit.train.guard import DivergedError
from spikekit.train.loss import TET, CrossEntropy, decode, pool_time
from spikekit.train.metrics import Epoch, Metrics
from spikekit.train.progress import Progress
from spikekit.train.schedule import WarmCosine, cosine
from spikekit.train.seeding import seed_all
from spikekit.train.trainer import Trainer

__all__ = [
    "TET",
    "CrossEntropy",
    "DivergedError",
    "Epoch",
    "Metrics",
    "Progress",
    "Trainer",
    "WarmCosine",
    "cosine",
    "decode",
    "load_weights",
    "pool_time",
    "read_config",
    "save",
    "seed_all",
]
