"""What a run is about: data, frames and model, as plain values that a checkpoint stores and the CLI rebuilds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader

from spikekit.errors import CheckpointError, InputError
from spikekit.events import RandomAffine
from spikekit.models import build
from spikekit.sequential import Sequential

if TYPE_CHECKING:
    from spikekit.datasets import EventSource, FrameDataset

DATA = ("auto", "nmnist", "saccade-digits")


@dataclass(frozen=True)
class Task:
    """A classification of event recordings.

    data: "nmnist" (real), "saccade-digits" (synthetic), or "auto": N-MNIST where it is found, else the other.
    bins: frames a recording, T. model, arguments: a name of `spikekit.models.MODELS` and what it is built with.
    """

    data: str = "auto"
    bins: int = 10
    model: str = "event_conv"
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data not in DATA:
            raise InputError(f"data must be one of {DATA}, got {self.data!r}")

    def resolved(self) -> Task:
        """The same task with "auto" replaced by the data it stands for on this machine."""
        from spikekit.datasets import NMNIST

        if self.data != "auto":
            return self
        found = "nmnist" if NMNIST.available() else "saccade-digits"
        return Task(found, self.bins, self.model, self.arguments)

    def source(self, split: str) -> EventSource:
        """The recordings of "train", "test" or "all"."""
        from spikekit.datasets import NMNIST, SaccadeDigits

        kind = NMNIST if self.resolved().data == "nmnist" else SaccadeDigits
        return cast("EventSource", kind(split))  # type: ignore[arg-type]

    def frames(self, split: str) -> FrameDataset:
        """Binary frames of a split, from the cache when they were made before."""
        from spikekit.datasets import FrameDataset

        return FrameDataset(self.source(split), n_bins=self.bins, binary=True)

    def loaders(
        self, batch_size: int, seed: int = 0
    ) -> tuple[DataLoader[tuple[Tensor, int]], DataLoader[tuple[Tensor, int]]]:
        """Training batches (shuffled; rotated, scaled, sheared and shifted a little) and test batches."""
        train = self.frames("train").loader(batch_size, shuffle=True, seed=seed, transform=RandomAffine())
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
