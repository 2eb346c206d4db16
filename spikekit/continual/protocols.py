"""Sequences of tasks, by the names that the field knows them by.

Permuted MNIST (Goodfellow et al. 2013, arXiv 1312.6211): every task has the same digits, their pixels in an order of
its own. Split sets (Zenke et al. 2017, ICML): every task has classes of its own. van de Ven and Tolias (2019, arXiv
1904.07734) tell scenarios apart: *class-incremental*, where a sample is told from all classes so far, and
*task-incremental*, where it is known which task it is from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikekit.continual.batch import Batch
from spikekit.datasets import FrameDataset, ImageSet
from spikekit.errors import InputError


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

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.labels)

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
        for indices in order.split(size)[start:]:
            yield self.batch(indices)


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
        return Samples(
            samples.data, samples.labels, samples.steps, samples.scale, samples.shift, None, samples.flat, seen
        )


def permuted(
    train: ImageSet, test: ImageSet, *, tasks: int = 10, steps: int = 6, limit: int | None = None, seed: int = 0
) -> Protocol:
    """Permuted pixels: `tasks` orders of them, the first the true one; one head of all classes for all tasks.

    train, test: grey images. steps: T. limit: training images of a task, its first; None: all.
    """
    _check(tasks, steps)
    if train.images.shape[1] != 1:
        raise InputError(f"permuted: {train.name} has {train.images.shape[1]} channels, grey images have 1")
    scale, shift = 1 / (255 * train.std[0]), -train.mean[0] / train.std[0]
    pixels, generator = train.images[0].numel(), torch.Generator().manual_seed(seed)
    kept = slice(None, limit)
    made = []
    for task in range(tasks):
        order = torch.arange(pixels) if task == 0 else torch.randperm(pixels, generator=generator)
        learn = Samples(train.images[kept], train.labels[kept], steps, scale, shift, order)
        judge = Samples(test.images, test.labels, steps, scale, shift, order)
        made.append(Task(f"permutation {task}", learn, judge, tuple(range(10))))
    return Protocol(f"permuted {train.name}", made, 10, (pixels,))


def split_images(
    train: ImageSet,
    test: ImageSet,
    *,
    scenario: str = "task",
    per_task: int = 2,
    steps: int = 6,
    flat: bool = True,
    limit: int | None = None,
) -> Protocol:
    """Classes in groups of `per_task`, a task each. scenario: "task" or "class", see above. limit: as in `permuted`.

    flat: give images as vectors.
    """
    scale, shift = 1 / (255 * train.std[0]), -train.mean[0] / train.std[0]
    settings = (steps, scale, shift, None, flat)
    shape = (train.images[0].numel(),) if flat else tuple(train.images.shape[1:])
    _check(1, steps)
    splits = ((train.images, train.labels), (test.images, test.labels))
    tasks = _split(*splits, settings, scenario, per_task, limit)
    return Protocol(f"split {train.name}", tasks, 10, shape, scenario)


def split_frames(
    train: FrameDataset, test: FrameDataset, *, scenario: str = "task", per_task: int = 2, flat: bool = False
) -> Protocol:
    """The same for event recordings as frames [N, T, 2, H, W], such as N-MNIST's."""
    shape = tuple(train.frames.shape[2:])
    settings = (None, 1.0, 0.0, None, flat)
    splits = ((train.frames, train.labels), (test.frames, test.labels))
    tasks = _split(*splits, settings, scenario, per_task, None)
    return Protocol(f"split {train.name}", tasks, 10, (torch.Size(shape).numel(),) if flat else shape, scenario)


def _split(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    settings: tuple[int | None, float, float, None, bool],
    scenario: str,
    per_task: int,
    limit: int | None,
) -> list[Task]:
    if scenario not in ("task", "class"):
        raise InputError(f"scenario must be 'task' or 'class', got {scenario!r}")
    if not 1 <= per_task < 10:
        raise InputError(f"per_task must be between 1 and 9 of 10 classes, got {per_task}")
    made = []
    for first in range(0, 10, per_task):
        classes = tuple(range(first, min(first + per_task, 10)))
        # In class-incremental learning only the classes so far have been heard of.
        known = classes if scenario == "task" else tuple(range(classes[-1] + 1))
        allowed = torch.zeros(10, dtype=torch.bool)
        allowed[list(known)] = True
        learn, judge = (
            Samples(data[where], labels[where], *settings, allowed)
            for (data, labels), most in ((train, limit), (test, None))
            for where in [torch.isin(labels, torch.tensor(classes)).nonzero().flatten()[:most]]
        )
        made.append(Task(f"classes {classes[0]}-{classes[-1]}", learn, judge, classes))
    return made


def _check(tasks: int, steps: int) -> None:
    if tasks < 1 or steps < 1:
        raise InputError(f"tasks and steps must be 1 or more, got {tasks} and {steps}")
