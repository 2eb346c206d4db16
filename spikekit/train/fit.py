"""The training loop: epochs, batches, checkpoints, and what to say when something goes wrong."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.errors import InputError
from spikekit.train.checkpoint import save
from spikekit.train.evaluate import Loss, correct, evaluate
from spikekit.train.guard import (
    DivergedError,
    LossWatch,
    advice,
    check_batch,
    check_output,
    first_bad_weight,
    show_rates,
)
from spikekit.train.interrupt import Interrupt
from spikekit.train.logs import Log
from spikekit.train.metrics import Epoch, Metrics
from spikekit.train.progress import Progress
from spikekit.train.seeding import restore_rng
from spikekit.train.shard import begin_epoch
from spikekit.train.snapshot import TrainingState

# Processes agree on an interrupt by a message; asking at every batch would make each wait for the slowest.
_AGREE_EVERY = 16
_LOOK_EVERY = 50


@dataclass
class FitLoop:
    """One call of `Trainer.fit`. wrapped, stepper: the network and the optimizer as the engine made them."""

    state: TrainingState
    wrapped: nn.Module
    stepper: Optimizer
    loss: Loss
    loader: Any
    val_loader: Any
    epochs: int
    seed: int
    clip_norm: float | None
    checkpoint_every: int | None
    run_dir: Path | None
    progress: Progress
    logs: Sequence[Log]
    _watch: LossWatch = field(init=False)

    def run(self) -> list[Epoch]:
        """Train until `epochs` are finished; returns the history of all of them."""
        state, progress = self.state, self.progress
        try:
            with Interrupt() as interrupt:
                while state.position.epoch < self.epochs:
                    self._epoch(interrupt)
        finally:
            progress.stop()
            for log in self.logs:
                log.close()
        return state.history

    @property
    def _last(self) -> Path | None:
        return None if self.run_dir is None else self.run_dir / "last.safetensors"

    def _epoch(self, interrupt: Interrupt) -> None:
        state, position = self.state, self.state.position
        started, before = time.monotonic(), position.seconds
        # On the CPU there is nothing to wait for.
        self._watch = LossWatch(1 if state.engine.device.type == "cpu" else _LOOK_EVERY)
        state.net.train()
        with state.meter:
            for batch in self._batches(interrupt):
                self._step(batch)
                position.seconds = before + time.monotonic() - started
                self.progress.batch(position.epoch + 1, position.batch, self._measure)
                self._stop_if_asked(interrupt)
                if self.checkpoint_every and position.batch % self.checkpoint_every == 0:
                    self._save()
        if position.batch == 0:
            raise InputError(f"epoch {position.epoch + 1}: the train_loader yielded no batches")
        self._check()
        record = self._finish_epoch(before + time.monotonic() - started)
        self._save()
        for log in self.logs:
            log.write(record)
        self.progress.epoch(record)
        for line in advice(record.train.layers):
            self.progress.note(line)
        if state.engine.agree(interrupt.requested) and position.epoch < self.epochs:
            self._interrupted()

    def _batches(self, interrupt: Interrupt) -> Iterator[Any]:
        """The batches of this epoch that have not been trained on yet."""
        state, position = self.state, self.state.position
        begin_epoch(self.loader, self.seed, position.epoch, state.engine.rank)
        batches = iter(self.loader)
        # Loading what was seen already, and dropping it, leaves workers and samplers where they were.
        for _ in range(position.batch):
            next(batches, None)
        if position.batch and state.rng is not None:
            restore_rng(state.rng, state.engine.device)
        state.rng = None
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError:
                # Ctrl-C reaches loader processes too; where they do not ignore it, they are gone now.
                if interrupt.requested and state.engine.world == 1:
                    self._save()
                    self._interrupted()
                raise
            yield batch

    def _step(self, batch: Any) -> None:
        state, engine, position = self.state, self.state.engine, self.state.position
        where = f"epoch {position.epoch + 1}, batch {position.batch + 1}"
        x, y = check_batch(batch, where, self.loss)
        x, target = engine.to_device(x), engine.to_device(y)
        self.stepper.zero_grad(set_to_none=True)
        try:
            output = self.wrapped(x)
        except InputError as error:
            self._explain(x, where, str(error), error)
        check_output(output, y, where, self.loss)
        loss = self.loss(output, target)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            raise InputError(f"{where}: the loss must be one number (a tensor of no axes), got {loss!r}")
        bad = self._watch.add(loss, position.step + 1)
        if bad == position.step + 1:
            self._explain(x, where, f"the loss is {loss.item()}")
        elif bad is not None:
            self._diverged(f"epoch {position.epoch + 1}, step {bad}: the loss is not finite")
        engine.backward(loss)
        if self.clip_norm is not None:
            engine.clip(self.wrapped, self.stepper, self.clip_norm)
        self.stepper.step()
        if state.average is not None:
            state.average.update(state.net)
        self._schedule()
        state.tally.add(loss, correct(self.loss, output.detach(), target), len(target))
        position.batch += 1
        position.step += 1

    def _schedule(self) -> None:
        scheduler = self.state.scheduler
        if scheduler is None:
            return
        if self.state.position.step > 0 or not self.state.engine.scaler_state:
            scheduler.step()
            return
        with warnings.catch_warnings():
            # "16-mixed" may skip its first steps while it finds the scale; torch takes that for a mistake.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            scheduler.step()

    def _measure(self) -> Metrics:
        return self.state.tally.result(self.state.meter.summary())

    def _finish_epoch(self, seconds: float) -> Epoch:
        state, position = self.state, self.state.position
        state.engine.share_buffers(state.net)
        state.engine.share_buffers(state.judged)
        state.tally.merge(state.engine.reduce)
        if state.engine.world > 1:
            state.meter.merge(state.engine.reduce, state.engine.device)
        train = self._measure()
        val = None
        if self.val_loader is not None:
            began = time.monotonic()
            val = evaluate(state.engine, state.judged, self.loss, self.val_loader, self.seed)
            seconds += time.monotonic() - began
        lr = float(self.stepper.param_groups[0]["lr"])
        record = Epoch(position.epoch + 1, position.step, lr, seconds, train, val)
        best = max((e.val.accuracy for e in state.history if e.val is not None), default=-1.0)
        if val is not None and val.accuracy > best and self.run_dir is not None and state.engine.rank == 0:
            save(state.judged, self.run_dir / "best.safetensors", state.config)
        state.history.append(record)
        position.epoch, position.batch, position.seconds = position.epoch + 1, 0, 0.0
        state.start_epoch_counts()
        return record

    def _save(self) -> None:
        if self._last is not None:
            self._check()
            self.state.engine.share_buffers(self.state.net)
            self.state.save(self._last)

    def _stop_if_asked(self, interrupt: Interrupt) -> None:
        engine = self.state.engine
        if engine.world > 1 and self.state.position.batch % _AGREE_EVERY:
            return
        if engine.agree(interrupt.requested):
            self._save()
            self._interrupted()

    def _interrupted(self) -> NoReturn:
        kept = (
            "nothing was saved: the Trainer has no run_dir"
            if self._last is None
            else f"saved to {self._last}; the same command, or fit() with resume=True, goes on from there"
        )
        text = f"training interrupted in {self.state.position}; {kept}"
        self.progress.note(text)
        raise KeyboardInterrupt(text)

    def _check(self) -> None:
        if (bad := self._watch.look()) is not None:
            self._diverged(f"epoch {self.state.position.epoch + 1}, step {bad}: the loss is not finite")

    def _explain(self, x: Tensor, where: str, what: str, error: Exception | None = None) -> NoReturn:
        """Raise the error that names the cause: the data, the weights, or neither."""
        if not bool(torch.isfinite(x).all()):
            raise InputError(f"{where}: x from the loader holds NaN or Inf; check the data") from error
        weight = first_bad_weight(self.state.net)
        if error is not None and weight is None:
            raise InputError(f"{where}: {error}") from error
        self._diverged(f"{where} (step {self.state.position.step + 1}): {what}", weight, error)

    def _diverged(self, what: str, weight: str | None = None, error: Exception | None = None) -> NoReturn:
        weight = weight or first_bad_weight(self.state.net)
        kept = self._last is not None and self._last.exists()
        raise DivergedError(
            f"{what}{f' and {weight!r} holds NaN or Inf' if weight else ''}. "
            f"Firing rates in this epoch: {show_rates(self.state.meter.summary())}. "
            f"Lower lr (now {self.stepper.param_groups[0]['lr']:.3g}) or set clip_norm"
            + (f". The last checkpoint is kept: {self._last}" if kept else "")
        ) from error
