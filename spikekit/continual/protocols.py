"""Sequences of tasks, by the names that the field knows them by.

Permuted MNIST (Goodfellow et al. 2013, arXiv 1312.6211): every task has the same digits, their pixels in an order of
its own. Split sets (Zenke et al. 2017, ICML): every task has classes of its own. van de Ven and Tolias (2019, arXiv
1904.07734) tell scenarios apart: *class-incremental*, where a sample is told from all classes so far, and
*task-incremental*, where it is known which task it is from. Several sets one after the other are Ebrahimi et al.'s
(2020, arXiv 2003.09553) "5-Datasets", where `mixed` is given theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from spikekit.continual.numbers import whole
from spikekit.continual.samples import Protocol, Samples, Task
from spikekit.datasets import FrameDataset, ImageSet
from spikekit.errors import InputError


def permuted(
    train: ImageSet, test: ImageSet, *, tasks: int = 10, steps: int = 6, limit: int | None = None, seed: int = 0
) -> Protocol:
    """Permuted pixels: `tasks` orders of them, the first the true one; one head of all classes for all tasks.

    train, test: grey images. steps: T. limit: training images of a task, its first; None: all.
    """
    whole("permuted", "tasks", tasks)
    if train.images.shape[1] != 1:
        raise InputError(f"permuted: {train.name} has {train.images.shape[1]} channels, grey images have 1")
    learn, judge = Samples.still(train, steps), Samples.still(test, steps)
    classes = _classes(train.name, learn, judge)
    learn = learn.part(slice(limit if limit is None else whole("permuted", "limit", limit)))
    pixels, generator = learn.shape[0], torch.Generator().manual_seed(whole("permuted", "seed", seed, 0))
    made = []
    for task in range(tasks):
        order = torch.arange(pixels) if task == 0 else torch.randperm(pixels, generator=generator)
        made.append(
            Task(f"permutation {task}", replace(learn, order=order), replace(judge, order=order), tuple(range(classes)))
        )
    return Protocol(f"permuted {train.name}", made, classes, learn.shape)


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
    learn, judge = Samples.still(train, steps, flat), Samples.still(test, steps, flat)
    return _split(train.name, learn, judge, scenario, per_task, limit)


def split_frames(
    train: FrameDataset,
    test: FrameDataset,
    *,
    scenario: str = "task",
    per_task: int = 2,
    flat: bool = False,
    limit: int | None = None,
) -> Protocol:
    """The same for event recordings as frames [N, T, 2, H, W], such as N-MNIST's."""
    learn, judge = Samples.moving(train, flat), Samples.moving(test, flat)
    return _split(train.name, learn, judge, scenario, per_task, limit)


def mixed(sets: Mapping[str, tuple[Samples, Samples]], *, scenario: str = "task") -> Protocol:
    """Whole sets one after the other, a task each, with outputs of its own for every class of every set.

    sets: name -> training and test samples, labels from 0, all of one shape a step. scenario: "task" or "class".
    """
    if not sets:
        raise InputError("mixed: no set is given")
    if len({part.shape for parts in sets.values() for part in parts}) != 1:
        found = {name: [part.shape for part in parts] for name, parts in sets.items()}
        raise InputError(f"mixed: the sets must have one shape a step, got {found}")
    first, tasks = 0, []
    for name, parts in sets.items():
        classes = tuple(range(first, first + _classes(name, *parts)))
        learn, judge = (replace(part, labels=part.labels + first) for part in parts)
        tasks.append(Task(name, learn, judge, classes))
        first += len(classes)
    return _told(Protocol("mixed " + ", ".join(sets), tasks, first, tasks[0].train.shape, scenario))


def _split(name: str, train: Samples, test: Samples, scenario: str, per_task: int, limit: int | None) -> Protocol:
    count = _classes(name, train, test)
    if whole(f"split {name}", "per_task", per_task) >= count:
        raise InputError(f"split {name}: per_task must be below its {count} classes, got {per_task}")
    if limit is not None:
        whole(f"split {name}", "limit", limit)
    tasks = []
    for first in range(0, count, per_task):
        classes = tuple(range(first, min(first + per_task, count)))
        learn, judge = (
            part.part(torch.isin(part.labels, torch.tensor(classes)).nonzero().flatten()[:most])
            for part, most in ((train, limit), (test, None))
        )
        tasks.append(Task(f"classes {classes[0]}-{classes[-1]}", learn, judge, classes))
    return _told(Protocol(f"split {name}", tasks, count, train.shape, scenario))


def _classes(name: str, train: Samples, test: Samples) -> int:
    """How many classes a set has; every one of them must be in both parts, and both of one shape."""
    if train.shape != test.shape:
        raise InputError(f"{name}: training samples are {train.shape} a step, test samples {test.shape}")
    found = [set(part.labels.unique().tolist()) for part in (train, test)]
    count = 1 + max(found[0] | found[1], default=-1)
    for part, labels in zip(("training", "test"), found, strict=True):
        if missing := sorted(set(range(count)) - labels):
            raise InputError(f"{name}: of the classes 0 to {count - 1} the {part} samples have none of {missing[:9]}")
    if not count:
        raise InputError(f"{name}: it holds no samples")
    return count


def _told(protocol: Protocol) -> Protocol:
    """With what each sample is told from: the classes of its task, or, class-incremental, all that were heard of."""
    if protocol.scenario not in ("task", "class"):
        raise InputError(f"scenario must be 'task' or 'class', got {protocol.scenario!r}")
    made, heard = [], list[int]()
    for task in protocol.tasks:
        heard = [*heard, *task.classes] if protocol.scenario == "class" else list(task.classes)
        allowed = torch.zeros(protocol.classes, dtype=torch.bool)
        allowed[heard] = True
        parts = replace(task.train, allowed=allowed), replace(task.test, allowed=allowed)
        made.append(replace(task, train=parts[0], test=parts[1]))
    return replace(protocol, tasks=made)
