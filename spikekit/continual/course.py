"""A method through a protocol: every task learned, all tasks so far looked at after each; killed, it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.continual.method import Method
from spikekit.continual.numbers import whole
from spikekit.continual.samples import Protocol, Samples
from spikekit.errors import CheckpointError, InputError
from spikekit.learning import Rule
from spikekit.train.archive import read_archive, remove_leftovers, write_archive

OptimizerMaker = Callable[[Iterable[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class Moment:
    """Where a course is: task and epoch from 1, batch of `batches`, the loss of it, the accuracies so far."""

    task: int
    epoch: int
    batch: int
    batches: int
    loss: float
    matrix: Tensor


@dataclass
class Course:
    """One method, one protocol, from the first task to the last.

    optimizer: makes the optimiser of a task from the parameters that may change; keep_optimizer: one for all tasks, for
    those whose memory of gradients is the point, such as Adagrad. rule: None is BPTT. epochs: a task. The data follow
    the network to its device. seed: of the order of the samples. folder: where `course.safetensors` is kept, written
    every `every` batches and after each task; a course that finds one goes on from there, and ends as if it had never
    stopped. None: no file.

    Raises CheckpointError for the file of another course: other data, method, rule, optimiser, numbers or shapes of
    weights. Neurons and surrogates are not compared.
    """

    method: Method
    protocol: Protocol
    optimizer: OptimizerMaker
    rule: Rule | None = None
    epochs: int = 1
    batch_size: int = 64
    seed: int = 0
    folder: str | os.PathLike[str] | None = None
    every: int = 200
    keep_optimizer: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "every"):
            whole("Course", name, getattr(self, name))
        whole("Course", "seed", self.seed, 0)
        if not isinstance(self.method, Method) or not isinstance(self.protocol, Protocol):
            raise InputError(
                f"Course: give a method, such as HLOP(net, units), and a protocol, such as permuted(train, test); got "
                f"{type(self.method).__name__} and {type(self.protocol).__name__}"
            )
        if not callable(self.optimizer):
            raise InputError(
                f"Course: optimizer must make one, as partial(torch.optim.SGD, lr=0.1) does, got a made "
                f"{type(self.optimizer).__name__}"
            )
        for task in self.protocol.tasks:
            if not len(task.train) or not len(task.test):
                raise InputError(f"Course: task {task.name!r} has no training or no test samples")
        count = len(self.protocol.tasks)
        self.matrix = torch.full((count, count), float("nan"), dtype=torch.float64)
        self._done = (0, 0)
        self._restored: dict[str, Tensor] = {}
        self._made: Optimizer | None = None

    def run(self, watch: Callable[[Moment], object] | None = None) -> Tensor:
        """Learn all tasks; returns the accuracies [K, K], NaN above the diagonal. watch: told of every batch."""
        self.protocol = self.protocol.to(self._device)
        self._load()
        for task in range(self._done[0], len(self.protocol.tasks)):
            self._learn(task, watch)
            self.method.end_task(self.protocol.tasks[task].train.batches(self.batch_size, self._order(task, -1)))
            for earlier in range(task + 1):
                self.matrix[task, earlier] = self.accuracy(self.protocol.test(earlier, task))
            self._done = (task + 1, 0)
            self._save(self._made if self.keep_optimizer else None)
        return self.matrix

    def accuracy(self, samples: Samples, size: int = 500) -> float:
        """The part of `samples` that the network has right, in eval mode."""
        net = self.method.net
        net.eval()
        with torch.no_grad():
            right = sum(batch.correct(net(batch.x)) for batch in samples.batches(size))
        return right / len(samples)

    def _learn(self, task: int, watch: Callable[[Moment], object] | None) -> None:
        if not self.method.learning:
            self.method.begin_task()
        self.method.train()
        if self._made is None or not self.keep_optimizer:
            self._made = self._new_optimizer()
        optimizer = self._made
        samples = self.protocol.tasks[task].train
        batches = -(-len(samples) // self.batch_size)
        while self._done[1] < self.epochs * batches:
            epoch, start = divmod(self._done[1], batches)
            for index, batch in enumerate(samples.batches(self.batch_size, self._order(task, epoch), start), start + 1):
                mixed = self.method.mix(batch)
                result = self.method.step(mixed.x, mixed.loss, optimizer, self.rule)
                self._done = (task, epoch * batches + index)
                if watch is not None:
                    watch(Moment(task + 1, epoch + 1, index, batches, float(result.loss), self.matrix))
                if self._done[1] % self.every == 0:
                    self._save(optimizer)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.method.net.parameters())).device

    def _order(self, task: int, epoch: int) -> torch.Generator:
        """Draws the order of a task's samples; -1 is the look after the last epoch."""
        return torch.Generator().manual_seed((self.seed * 1009 + task) * 1009 + epoch + 1)

    def _new_optimizer(self) -> Optimizer:
        optimizer = self.optimizer(self.method.parameters())
        stored, self._restored = self._restored, {}
        if stored:
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in stored.items():
                index, _, name = key.partition(".")
                state.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return optimizer

    def _path(self) -> Path | None:
        return None if self.folder is None else Path(self.folder) / "course.safetensors"

    def _save(self, optimizer: Optimizer | None) -> None:
        path = self._path()
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"net.{name}": value for name, value in self.method.net.state_dict().items()}
        tensors |= {f"method.{name}": value for name, value in self.method.state_dict().items()}
        tensors |= {"matrix": self.matrix, "random": torch.get_rng_state()}
        if self._device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self._device)
        for index, entries in (optimizer.state_dict()["state"] if optimizer is not None else {}).items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
        write_archive(path, tensors, {"done": list(self._done), "settings": self._settings()})

    def _load(self) -> None:
        path = self._path()
        if path is None or not path.exists():
            return
        remove_leftovers(path)
        tensors, info = read_archive(path)
        stored, own = info.get("settings", {}), json.loads(json.dumps(self._settings()))
        if stored != own:
            differing = {key: (stored.get(key), own.get(key)) for key in own if stored.get(key) != own.get(key)}
            raise CheckpointError(
                f"{path}: it is of another course: "
                + "; ".join(f"{key} was {old}, and is {new}" for key, (old, new) in differing.items())
                + ". Choose another folder, or delete it"
            )
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = value
        try:
            self.method.net.load_state_dict(parts["net"])
        except RuntimeError as error:
            raise CheckpointError(f"{path}: it is of another network ({error}). Choose another folder") from error
        self._made = None
        self.method.load_state_dict(parts["method"])
        self._restored = parts.get("optimizer", {})
        self.matrix = tensors["matrix"]
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], self._device)
        task, batch = info["done"]
        self._done = (int(task), int(batch))

    def _settings(self) -> dict[str, object]:
        """What a stored course must agree in with this one."""
        made = self.optimizer([nn.Parameter(torch.zeros(1))])
        return {
            "method": [type(self.method).__name__, self.method.settings()],
            "protocol": [self.protocol.name, self.protocol.scenario],
            "data": [task.train.fingerprint for task in self.protocol.tasks],
            "rule": "BPTT()" if self.rule is None else repr(self.rule),
            "optimizer": [type(made).__name__, {name: repr(value) for name, value in made.defaults.items()}],
            "epochs": self.epochs,
            "keep_optimizer": self.keep_optimizer,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }
