"""What a run is about: data, steps and model, as plain values that a checkpoint stores and the CLI rebuilds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torch.optim import AdamW
from torch.utils.data import DataLoader

from spikekit.errors import CheckpointError, InputError
from spikekit.events import RandomAffine
from spikekit.models import build
from spikekit.sequential import Sequential

if TYPE_CHECKING:
    from spikekit.datasets import EventSource, FrameDataset, ImageSet, RepeatedImages

DATA = ("auto", "nmnist", "saccade-digits")
IMAGES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10-jpeg": "CIFAR10JPEG"}
"""Sets of still images and their classes in `spikekit.datasets`."""


@dataclass(frozen=True)
class Task:
    """A classification of event recordings, or of still images that are repeated over time.

    data: "nmnist" (real), "saccade-digits" (synthetic), or "auto": N-MNIST where it is found, else the other; or a name
    of `IMAGES`. bins: frames a recording, or steps that an image is shown for, T. model, arguments: a name of
    `spikekit.models.MODELS` and what it is built with.
    """

    data: str = "auto"
    bins: int = 10
    model: str = "event_conv"
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data not in (*DATA, *IMAGES):
            raise InputError(f"data must be one of {(*DATA, *IMAGES)}, got {self.data!r}")

    def resolved(self) -> Task:
        """The same task with "auto" replaced by the data it stands for on this machine."""
        from spikekit.datasets import NMNIST

        if self.data != "auto":
            return self
        found = "nmnist" if NMNIST.available() else "saccade-digits"
        return Task(found, self.bins, self.model, self.arguments)

    @property
    def name(self) -> str:
        """The data's name, as a figure's caption should say it."""
        from spikekit import datasets

        data = self.resolved().data
        if data in IMAGES:
            return str(getattr(datasets, IMAGES[data]).title)
        return datasets.NMNIST.name if data == "nmnist" else datasets.SaccadeDigits.name

    def source(self, split: str) -> EventSource | ImageSet:
        """The recordings of "train", "test" or "all", or the images of "train" or "test"."""
        from spikekit import datasets
        from spikekit.datasets import NMNIST, SaccadeDigits

        if self.data in IMAGES:
            return cast("ImageSet", getattr(datasets, IMAGES[self.data])(split))
        kind = NMNIST if self.resolved().data == "nmnist" else SaccadeDigits
        return cast("EventSource", kind(split))  # type: ignore[arg-type]

    def frames(self, split: str) -> FrameDataset | RepeatedImages:
        """Binary frames of a split, from the cache when they were made before; or its images, repeated."""
        from spikekit.datasets import FrameDataset, ImageSet, RepeatedImages

        source = self.source(split)
        if isinstance(source, ImageSet):
            return RepeatedImages(source, self.bins)
        return FrameDataset(source, n_bins=self.bins, binary=True)

    def loaders(self, batch_size: int, seed: int = 0) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Training batches, shuffled, and test batches; recordings are rotated, scaled, sheared, shifted a little."""
        augment = None if self.data in IMAGES else RandomAffine()
        train = self.frames("train").loader(batch_size, shuffle=True, seed=seed, transform=augment)
        return train, self.frames("test").loader(100)

    def build(self) -> Sequential:
        """The network, with random weights."""
        return build(self.model, self.arguments)

    @staticmethod
    def recipe(lr: float = 4e-3) -> dict[str, Any]:
        """How a network of this task is trained: keyword arguments of `Trainer`."""
        from spikekit.train import CrossEntropy, WarmCosine

        return {
            "loss": CrossEntropy(label_smoothing=0.1),
            "optimizer": partial(AdamW, lr=lr, weight_decay=1e-2),
            "schedule": WarmCosine(),
        }

    def config(self) -> dict[str, Any]:
        """Plain values for a checkpoint; `from_config` is the inverse."""
        return {"task": asdict(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: object = "the checkpoint") -> Task:
        """The task stored by `config`. Raises CheckpointError naming `where` when there is none."""
        try:
            return cls(**config["task"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{where}: describes no task ({error}); it was not written by `spikekit train`. "
                "Build its network yourself and call spikekit.train.load_weights."
            ) from error
