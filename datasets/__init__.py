"""Datasets: real N-MNIST, an embedded set that needs no download, and frames of either for training."""

from spikekit.datasets.folds import kfold
from spikekit.datasets.frames import FrameDataset
from spikekit.datasets.home import cache_home, data_home
from spikekit.datasets.nmnist import NMNIST
from spikekit.datasets.saccade_digits import SaccadeDigits
from spikekit.datasets.source import EventSource

__all__ = ["NMNIST", "EventSource", "FrameDataset", "SaccadeDigits", "cache_home", "data_home", "kfold"]
