"""Datasets: real N-MNIST, still images, an embedded event set that needs no download, and frames for training."""

from spikekit.datasets.bccd import BCCD
from spikekit.datasets.box_augment import BoxColour, BoxCompose, BoxFlip, BoxScale
from spikekit.datasets.box_dataset import BoxDataset, collate_boxes
from spikekit.datasets.cifar10_jpeg import CIFAR10JPEG
from spikekit.datasets.folds import kfold
from spikekit.datasets.frames import FrameDataset
from spikekit.datasets.home import cache_home, data_home
from spikekit.datasets.image_augment import Cutout, RandomCrop, RandomFlip
from spikekit.datasets.images import ImageSet, holdout
from spikekit.datasets.mnist import MNIST, FashionMNIST
from spikekit.datasets.nmnist import NMNIST
from spikekit.datasets.nmnist_mosaic import NMNISTMosaic
from spikekit.datasets.prophesee import DatFile, Gen1
from spikekit.datasets.repeated import RepeatedImages
from spikekit.datasets.saccade_digits import SaccadeDigits
from spikekit.datasets.source import EventSource

__all__ = [
    "BCCD",
    "CIFAR10JPEG",
    "MNIST",
    "NMNIST",
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
    "NMNISTMosaic",
    "RandomCrop",
    "RandomFlip",
    "RepeatedImages",
    "SaccadeDigits",
    "cache_home",
    "collate_boxes",
    "data_home",
    "holdout",
    "kfold",
]
