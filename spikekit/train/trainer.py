"""The Trainer: settings in, trained network out; the loop is in `fit`, the device in `engine`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.errors import CheckpointError, InputError
from spikekit.measure.activity import ActivityMeter
from spikekit.train.archive import check_writable
from spikekit.train.averaging import Average
from spikekit.train.checkpoint import plain
from spikekit.train.engine import Engine
from spikekit.train.evaluate import Loss, evaluate
from spikekit.train.fit import FitLoop
from spikekit.train.guard import check_loader
from spikekit.train.logs import Log, open_logs
from spikekit.train.loss import CrossEntropy
from spikekit.train.metrics import Epoch, Metrics, Tally
from spikekit.train.progress import Progress, choose_progress
from spikekit.train.schedule import Schedule, make_schedule
from spikekit.train.shard import shard
from spikekit.train.snapshot import TrainingState

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
Batches = Iterable[tuple[Tensor, Tensor]]


class Trainer:
    """Trains a network that maps x [T, B, ...] to scores [T, B, C], on loaders of (x float, y int64 [B]).

    ```python
    trainer = sk.Trainer(net, run_dir="runs/nmnist")
    history = trainer.fit(train_loader, test_loader, epochs=8)
    print(trainer.evaluate(test_loader).accuracy)
    ```
    The same script trains on several devices under `torchrun --nproc-per-node=N`, or with `devices=N`.

    run_dir: folder for `last.safetensors` (everything needed to go on), `best.safetensors` (weights of the
    best validation accuracy), `metrics.csv` and `tensorboard/`; None writes nothing. optimizer: None for Adam
    at `lr`, an optimizer, or a callable that makes one from the parameters. loss: None for `CrossEntropy()`,
    or a callable (output, target) -> scalar; its `decode` gives the classes. One with `check_target`,
    `check_output` and `score`, such as `spikekit.detect.DetectionLoss`, trains on other targets than class
    numbers. schedule: "cosine" to zero over all steps, None, or (optimizer, total_steps) -> LRScheduler,
    stepped every batch. clip_norm: largest 2-norm of all gradients together. ema: decay of a running average of
    the weights, such as 0.999, which then is what is evaluated, saved as best and found in `averaged`; None: none.
    checkpoint_every: batches between checkpoints, beside the one after every epoch. seed: order of samples,
    dropout, augmentation; call `seed_all` before building `net` for its initial weights. precision, devices,
    accelerator, num_nodes, strategy: as in Lightning Fabric (single device and DDP). progress: True, False, or an
    object of the protocol `Progress`. tensorboard: None writes it if installed. config: plain JSON stored with the
    weights, for `read_config`; a run is resumed under the same one only.

    Raises CheckpointError when run_dir cannot be written, InputError for settings that cannot work.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        run_dir: str | os.PathLike[str] | None = None,
        optimizer: Optimizer | MakeOptimizer | None = None,
        loss: Loss | None = None,
        lr: float = 1e-3,
        schedule: str | Schedule | None = "cosine",
        clip_norm: float | None = None,
        ema: float | None = None,
        seed: int = 0,
        checkpoint_every: int | None = None,
        precision: str = "32-true",
        devices: int | str | list[int] = 1,
        accelerator: str = "auto",
        num_nodes: int = 1,
        strategy: str = "auto",
        progress: bool | Progress = True,
        tensorboard: bool | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        _check_numbers(lr, seed, clip_norm, checkpoint_every)
        self.net = net
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.loss: Loss = CrossEntropy() if loss is None else loss
        self.engine = Engine(accelerator, devices, num_nodes, precision, strategy)
        if self.run_dir is not None and self.engine.rank == 0:
            check_writable(self.run_dir)
        self._optimizer, self._lr, self._schedule = optimizer, lr, schedule
        self._clip_norm, self._seed, self._checkpoint_every = clip_norm, seed, checkpoint_every
        self._precision, self._progress, self._tensorboard = precision, progress, tensorboard
        self._config = dict(config or {})
        self._wrapped: nn.Module | None = None
        self._ema = ema
        self.averaged: nn.Module | None = None if ema is None else Average(plain(net), ema).net

    def fit(
        self,
        train_loader: Batches,
        val_loader: Batches | None = None,
        *,
        epochs: int = 8,
        resume: bool = True,
    ) -> list[Epoch]:
        """Train until `epochs` epochs are finished, and return what each of them measured.

        Every epoch seeds the generators of Python, NumPy and torch; randomness in a dataset must come from them.
        resume=True goes on from run_dir's last checkpoint if there is one, to weights bit-identical to those of
        a run never stopped, on the same device (a loader with persistent_workers repeats its order, but not its
        augmentation); a finished run is only loaded. resume=False starts again and overwrites it.
        Ctrl-C saves a checkpoint and raises KeyboardInterrupt. Raises InputError for batches that do not fit,
        DivergedError (an ArithmeticError) for a loss that is not finite, CheckpointError for a checkpoint that
        is damaged or of another network or setting.
        """
        if epochs < 1:
            raise InputError(f"fit: epochs must be at least 1, got {epochs}")
        loader = shard(train_loader, self.engine.rank, self.engine.world, even=True)
        batches = check_loader(loader, "train_loader")
        if val_loader is not None:
            check_loader(val_loader, "val_loader")
        if self._wrapped is None:
            self._wrapped = self.engine.setup(self.net)
        state, stepper = self._state(batches, epochs)
        self._resume(state, resume)
        position, run_dir = state.position, self.run_dir
        progress = choose_progress(self._progress, self.engine.rank)
        logs: list[Log] = []
        if run_dir is not None and self.engine.rank == 0:
            logs = open_logs(run_dir, state.history, position.step, self._tensorboard)
        progress.start(epochs, batches, position.epoch, position.batch)
        loop = FitLoop(
            state=state,
            wrapped=self._wrapped,
            stepper=stepper,
            loss=self.loss,
            loader=loader,
            val_loader=val_loader,
            epochs=epochs,
            seed=self._seed,
            clip_norm=self._clip_norm,
            checkpoint_every=self._checkpoint_every,
            run_dir=run_dir,
            progress=progress,
            logs=logs,
        )
        return loop.run()

    def evaluate(self, loader: Batches) -> Metrics:
        """Loss, accuracy and firing on `loader` of the present weights, averaged with ema; moves them to the device."""
        net = self.net if self.averaged is None else self.averaged
        self.engine.place(net)
        return evaluate(self.engine, plain(net), self.loss, loader, self._seed)

    def _state(self, batches: int | None, epochs: int) -> tuple[TrainingState, Optimizer]:
        optimizer = self._make_optimizer()
        stepper = self.engine.setup_optimizer(optimizer)
        total = None if batches is None else batches * epochs
        scheduler = make_schedule(self._schedule, optimizer, total)
        settings = {
            "seed": self._seed,
            "optimizer": type(optimizer).__name__,
            "lr": [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups],
            "schedule": _name(self._schedule),
            "loss": _name(self.loss),
            "clip_norm": self._clip_norm,
            "ema": self._ema,
            "precision": self._precision,
            "processes": self.engine.world,
            "batches an epoch": batches,
        }
        net = plain(self.net)
        meter, tally = ActivityMeter(net, allow_none=True), Tally(self.engine.device)
        state = TrainingState(self.engine, net, optimizer, scheduler, settings, self._config, meter, tally)
        if self._ema is not None:
            state.average = Average(net, self._ema)
            self.averaged = state.average.net
        return state, stepper

    def _make_optimizer(self) -> Optimizer:
        given = self._optimizer
        if isinstance(given, Optimizer):
            return given
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        if not parameters:
            raise InputError("Trainer: the network has no parameter to train (requires_grad=True)")
        made = torch.optim.Adam(parameters, lr=self._lr) if given is None else given(parameters)
        if not isinstance(made, Optimizer):
            raise InputError(f"Trainer: optimizer must make a torch optimizer, it made a {type(made).__name__}")
        return made

    def _resume(self, state: TrainingState, resume: bool) -> None:
        if self.run_dir is None or not resume:
            return
        last = self.run_dir / "last.safetensors"
        there = torch.tensor(int(last.exists()), device=self.engine.device)
        seen_by = int(self.engine.reduce(there, "sum").item())
        if seen_by == self.engine.world:
            state.load(last)
        elif seen_by:
            raise CheckpointError(
                f"{last}: seen by {seen_by} of {self.engine.world} processes; all machines must share run_dir"
            )


def _check_numbers(lr: float, seed: int, clip_norm: float | None, checkpoint_every: int | None) -> None:
    if not lr > 0:
        raise InputError(f"Trainer: lr must be > 0, got {lr}")
    if seed < 0:
        raise InputError(f"Trainer: seed must be >= 0, got {seed}")
    if clip_norm is not None and not clip_norm > 0:
        raise InputError(f"Trainer: clip_norm must be > 0 or None, got {clip_norm}")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise InputError(f"Trainer: checkpoint_every must be at least 1 batch or None, got {checkpoint_every}")


def _name(thing: Any) -> str | None:
    if thing is None or isinstance(thing, str):
        return thing
    # An address in a repr differs from run to run.
    text = repr(thing)
    return getattr(thing, "__qualname__", type(thing).__name__) if " at 0x" in text else text
