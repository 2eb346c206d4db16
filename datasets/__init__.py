"""Datasets: real N-MNIST, still images, text, an embedded event set, tasks of memory, and frames for training."""

from spikekit.datasets.cifar10_jpeg import CIFAR10JPEG
from spikekit.datasets.folds import kfold
from spikekit.datasets.frames import FrameDataset
from spikekit.datasets.home import cache_home, data_home
from spikekit.datasets.image_augment import Cutout, RandomCrop, RandomFlip
from spikekit.datasets.images import ImageSet, holdout
from spikekit.datasets.memory_tasks import MemoryTask
from spikekit.datasets.mnist import MNIST, FashionMNIST
from spikekit.datasets.nmnist import NMNIST
from spikekit.datasets.repeated import RepeatedImages
from spikekit.datasets.saccade_digits import SaccadeDigits
from spikekit.datasets.sequences import SequentialImages
from spikekit.datasets.source import EventSource
from spikekit.datasets.text import Corpus, TokenStreams, read_corpus
from spikekit.datasets.tokens import BytePair, CharTokenizer, Tokenizer, make_tokenizer, tokenizer_from_config

__all__ = [
    "CIFAR10JPEG",
    "MNIST",
    "NMNIST",
    "BytePair",
    "CharTokenizer",
    "Corpus",
    "Cutout",
    "EventSource",
    "FashionMNIST",
    "FrameDataset",
    "ImageSet",
    "MemoryTask",
    "RandomCrop",
    "RandomFlip",
    "RepeatedImages",
    "SaccadeDigits",
    "SequentialImages",
    "TokenStreams",
    "Tokenizer",
    "cache_home",
    "data_home",
    "holdout",
    "kfold",
    "make_tokenizer",
    "read_corpus",
    "tokenizer_from_config",
]
