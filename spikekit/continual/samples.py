"""The samples of a task, the task, and a sequence of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from spikekit.continual.batch import Batch
from spikekit.continual.numbers import whole
from spikekit.datasets import FrameDataset, ImageSet


@dataclass(frozen=True)
class Samples:
    """The samples of one task and split.

    data: images uint8 [N, C, H, W], shown for `steps` steps, or frames uint8 [N, T, C, H, W] where steps is None.
    labels: int64 [N]. scale, shift: x = data·scale + shift. order: of the pixels of a flattened image, or None. flat:
    whether a step is one vector. allowed: classes that a sample is told from, bool [C], or None for all.
    """

    data: Tensor
    labels: Tensor
    steps: int | None
    scale: float = 1.0
    shift: float = 0.0
    order: Tensor | None = None
    flat: bool = True
    allowed: Tensor | None = None

    @classmethod
    def still(cls, images: ImageSet, steps: int, flat: bool = True) -> Samples:
        """Images that are shown for `steps` steps, standardised by the mean and deviation of all their channels."""
        whole(images.name, "steps", steps)
        mean, std = (sum(values) / len(values) for values in (images.mean, images.std))
        return cls(images.images, images.labels, steps, 1 / (255 * std), -mean / std, None, flat)

    @classmethod
    def moving(cls, recordings: FrameDataset, flat: bool = False) -> Samples:
        """Event recordings, such as N-MNIST's: their frames [N, T, 2, H, W] as they are."""
        return cls(recordings.frames, recordings.labels, None, flat=flat)

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one step of one sample."""
        shape = tuple(self.data.shape[1 if self.steps is not None else 2 :])
        return (torch.Size(shape).numel(),) if self.flat else shape

    @property
    def fingerprint(self) -> str:
        """Of what they are and of the first of them: another set, order or number of steps has another."""
        first = [self.data[:16], self.labels[:16], self.order, self.allowed]
        found = zlib.crc32(repr((len(self), self.steps, self.scale, self.shift, self.flat)).encode())
        for tensor in first:
            found = zlib.crc32(b"" if tensor is None else tensor.cpu().contiguous().numpy().tobytes(), found)
        return f"{found:08x}"

    def part(self, where: Tensor | slice) -> Samples:
        """The samples `where`, indices or a slice."""
        return replace(self, data=self.data[where], labels=self.labels[where])

    def batch(self, indices: Tensor) -> Batch:
        """The samples `indices`, x [T, B, ...] float32; a still image is one in memory."""
        x = self.data[indices].float().mul_(self.scale).add_(self.shift)
        if self.steps is None:
            x = x.transpose(0, 1).contiguous()
        x = x.flatten(1 if self.steps is not None else 2) if self.flat else x
        if self.order is not None:
            x = x[..., self.order]
        if self.steps is not None:
            x = x.expand(self.steps, *x.shape)
        allowed = None if self.allowed is None else self.allowed.expand(len(indices), -1)
        return Batch(x, self.labels[indices], allowed)

    def batches(self, size: int, generator: torch.Generator | None = None, start: int = 0) -> Iterator[Batch]:
        """Batches of `size`, in an order that `generator` draws or in that of the set; from batch `start`."""
        order = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        for indices in order.to(self.data.device).split(size)[start:]:
            yield self.batch(indices)

    def to(self, device: torch.device | str, known: dict[int, Tensor] | None = None) -> Samples:
        """The same on another device. known: id of a tensor -> where it was moved already, so that sharing stays."""
        known = {} if known is None else known
        moved: dict[str, Any] = {}
        for name in ("data", "labels", "order", "allowed"):
            tensor = getattr(self, name)
            if tensor is not None:
                if id(tensor) not in known:
                    known[id(tensor)] = tensor.to(device)
                moved[name] = known[id(tensor)]
        return replace(self, **moved)


@dataclass(frozen=True)
class Task:
    """One task: what it is called, its training and its test samples, and the classes it brings."""

    name: str
    train: Samples
    test: Samples
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Protocol:
    """Tasks in their order. classes: outputs of a network for it. shape: of one step of one sample."""

    name: str
    tasks: Sequence[Task]
    classes: int
    shape: tuple[int, ...]
    scenario: str = field(default="domain")

    def test(self, task: int, learned: int) -> Samples:
        """Test samples of `task`, as they are told from classes after `learned` tasks; both from 0."""
        samples = self.tasks[task].test
        if self.scenario != "class":
            return samples
        seen = torch.zeros(self.classes, dtype=torch.bool)
        seen[[c for one in self.tasks[: learned + 1] for c in one.classes]] = True
        return replace(samples, allowed=seen.to(samples.data.device))

    def to(self, device: torch.device | str) -> Protocol:
        """The same with all data on `device`."""
        known: dict[int, Tensor] = {}
        tasks = [replace(t, train=t.train.to(device, known), test=t.test.to(device, known)) for t in self.tasks]
        return replace(self, tasks=tasks)
