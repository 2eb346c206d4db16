"""Datasets: real N-MNIST, still images, text, an embedded event set, tasks of memory, and frames for training."""

from spikekit.datasets.bccd import BCCD
from spikekit.datasets.box_augment import BoxColour, BoxCompose, BoxFlip, BoxScale
from spikekit.datasets.box_dataset import BoxDataset, collate_boxes
from spikekit.datasets.cifar10_jpeg import CIFAR10JPEG
from spikekit.datasets.folds import kfold
from spikekit.datasets.frames import FrameDataset
from spikekit.datasets.home import cache_home, data_home
from spikekit.datasets.image_augment import Cutout, RandomCrop, RandomFlip
from spikekit.datasets.images import ImageSet, holdout
from spikekit.datasets.memory_tasks import MemoryTask
from spikekit.datasets.mnist import MNIST, FashionMNIST
from spikekit.datasets.nmnist import NMNIST
from spikekit.datasets.nmnist_mosaic import NMNISTMosaic
from spikekit.datasets.prophesee import DatFile, Gen1
from spikekit.datasets.repeated import RepeatedImages
from spikekit.datasets.saccade_digits import SaccadeDigits
from spikekit.datasets.sequences import SequentialImages
from spikekit.datasets.source import EventSource
from spikekit.datasets.text import Corpus, TokenStreams, read_corpus
from spikekit.datasets.tokens import BytePair, CharTokenizer, Tokenizer, make_tokenizer, tokenizer_from_config

__all__ = [
    "BCCD",
    "CIFAR10JPEG",
    "MNIST",
    "NMNIST",
    "BytePair",
    "CharTokenizer",
    "Corpus",
    "BoxColour",
    "BoxCompose",
    "BoxDataset",
    "BoxFlip",
    "BoxScale",
    "Cutout",
    "DatFile",
    "EventSource",
    "FashionMNIST",
    "FrameDataset",
    "Gen1",
    "ImageSet",
    "MemoryTask",
    "NMNISTMosaic",
    "RandomCrop",
    "RandomFlip",
    "RepeatedImages",
    "SaccadeDigits",
    "SequentialImages",
    "TokenStreams",
    "Tokenizer",
    "cache_home",
    "collate_boxes",
    "data_home",
    "holdout",
    "kfold",
    "make_tokenizer",
    "read_corpus",
    "tokenizer_from_config",
]
