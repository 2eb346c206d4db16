"""Training on streams of tokens by truncated backpropagation: the state goes on from piece to piece, the gradient ends.

Williams and Peng 1990. A run is a number of steps or of seconds, so that networks can be given equal time.
"""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from spikekit.datasets import TokenStreams
from spikekit.errors import CheckpointError, InputError
from spikekit.language.score import token_loss
from spikekit.state import State, map_state, run
from spikekit.train.archive import check_writable, read_archive, remove_leftovers, write_archive
from spikekit.train.checkpoint import MODEL, insert, weights
from spikekit.train.fingerprint import fingerprint
from spikekit.train.guard import DivergedError, first_bad_weight
from spikekit.train.interrupt import Interrupt
from spikekit.train.pack import pack, unpack
from spikekit.train.progress import duration

_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class TextSettings:
    """How a language model is trained.

    steps or seconds: how long, one of the two; seconds are those of training alone, by the clock "wall", or "cpu" for
    those of all threads of the process, which does not count what others do on the machine. lr: peak of
    AdamW's learning rate, which rises over the part `warmup` of the run and falls to a twentieth as half a cosine.
    weight_decay: of matrices. clip_norm: largest 2-norm of all gradients together. judge: how often the held-out text
    is scored and a checkpoint written, over the whole run.
    """

    steps: int | None = None
    seconds: float | None = None
    clock: str = "wall"
    lr: float = 1e-2
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip_norm: float = 1.0
    judge: int = 10

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise InputError("TextSettings: give steps or seconds, one of the two")
        for name in ("judge",) if self.steps is None else ("steps", "judge"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"TextSettings: {name} must be a whole number above 0, got {value!r}")
        for name in ("seconds", "lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"TextSettings: {name} must be above 0, got {value!r}")
        if self.clock not in _CLOCKS:
            raise InputError(f"TextSettings: clock must be 'wall' or 'cpu', got {self.clock!r}")
        if not 0 <= self.warmup < 1 or not self.weight_decay >= 0:
            raise InputError(
                "TextSettings: warmup must be 0 or more and below 1, weight_decay 0 or more; "
                f"got {self.warmup!r} and {self.weight_decay!r}"
            )

    def rate(self, part: float) -> float:
        """The learning rate once `part` of the run is over."""
        rise = min(1.0, (part + 1e-3) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
        return self.lr * rise * (0.05 + 0.95 * fall)


@dataclass(frozen=True)
class TextRecord:
    """Where a run stood: steps, seconds and tokens of training, bits a token since the last record, held-out bits."""

    step: int
    seconds: float
    tokens: int
    train_bits: float
    valid_bits: float


class TextTrainer:
    """Trains a network that maps tokens [T, B] to logits [T, B, V] on `streams`, read again and again.

    judge: gives the bits that the held-out text costs; called `settings.judge` times. run_dir: folder for
    `last.safetensors`, everything needed to go on, and `metrics.csv`; None writes nothing. config: plain JSON stored
    with the weights. quiet: show nothing. On the CPU a resumed run of `steps` ends with the bits of one never stopped.
    """

    def __init__(
        self,
        net: nn.Module,
        streams: TokenStreams,
        judge: Callable[[], float],
        settings: TextSettings,
        *,
        run_dir: str | os.PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
        quiet: bool = False,
    ) -> None:
        self.net, self.streams, self.settings = net, streams, settings
        self._judge, self._config, self._quiet = judge, dict(config or {}), quiet
        self._last = None if run_dir is None else Path(run_dir) / "last.safetensors"
        if self._last is not None:
            check_writable(self._last.parent)
        matrices = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
        rest = [p for p in net.parameters() if p.requires_grad and p.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
        self.history: list[TextRecord] = []
        self._step, self._seconds = 0, 0.0
        self._state: State | None = None
        self._bits, self._count = 0.0, 0

    @property
    def part(self) -> float:
        """How much of the run is over, from 0 to 1."""
        if self.settings.steps is not None:
            return min(1.0, self._step / self.settings.steps)
        return min(1.0, self._seconds / float(self.settings.seconds or 0))

    def fit(self, *, resume: bool = True) -> list[TextRecord]:
        """Train until the steps or seconds are over; returns a record of each time the held-out text was scored.

        resume=True goes on from run_dir's last checkpoint. Ctrl-C saves a checkpoint and raises KeyboardInterrupt.
        Raises DivergedError for a loss that is not finite, CheckpointError for a checkpoint of another network, other
        settings or other data.
        """
        if resume and self._last is not None and self._last.exists():
            self._load(self._last)
        self.net.train()
        with Interrupt() as interrupt:
            while self.part < 1:
                due = (len(self.history) + 1) / self.settings.judge
                self._train_step()
                self._show()
                # The last one falls due when the run is over, whatever rounding says.
                if self.part >= min(due, 1.0):
                    self._record()
                if interrupt.requested and self.part < 1:
                    self._save()
                    self._interrupted()
        return self.history

    def _interrupted(self) -> NoReturn:
        kept = (
            "nothing was saved: there is no run_dir"
            if self._last is None
            else f"saved to {self._last}; the same command, or fit() with resume=True, goes on from there"
        )
        text = f"training interrupted after {self._step} steps; {kept}"
        if not self._quiet:
            sys.stderr.write(("\r\x1b[K" if sys.stderr.isatty() else "") + text + "\n")
        raise KeyboardInterrupt(text)

    def _train_step(self) -> None:
        clock = _CLOCKS[self.settings.clock]
        began = clock()
        index = self._step % len(self.streams)
        x, y = (part.to(self._device) for part in self.streams[index])
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.part)
        logits, state = run(self.net, x, self._state if index else None)
        loss = token_loss(logits, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip_norm)
        nats = float(loss.detach())
        # Before the weights move: they are left to whoever catches this.
        if not math.isfinite(nats):
            raise DivergedError(
                f"step {self._step + 1}: the loss is {nats}"
                + (f" and {bad!r} holds NaN or Inf" if (bad := first_bad_weight(self.net)) else "")
                + f". Lower lr (now {self.settings.lr:g}) or clip_norm"
            )
        self.optimizer.step()
        # The last piece of a text ends its streams, and they start at rest again.
        self._state = map_state(torch.Tensor.detach, state) if index + 1 < len(self.streams) else None
        self._step += 1
        self._bits += nats / math.log(2)
        self._count += 1
        self._seconds += clock() - began

    def _record(self) -> None:
        valid = self._judge()
        tokens = self._step * self.streams.batch * self.streams.steps
        self.history.append(TextRecord(self._step, self._seconds, tokens, self._bits / max(self._count, 1), valid))
        self._bits, self._count = 0.0, 0
        self._save()
        self._show(whole=True)

    def _show(self, whole: bool = False) -> None:
        live = sys.stderr.isatty()
        if self._quiet or not (whole or (live and self._step % 10 == 0)):
            return
        speed = self._step * self.streams.batch * self.streams.steps / max(self._seconds, 1e-9)
        left = duration(self._seconds * (1 - self.part) / max(self.part, 1e-9))
        bits = self.history[-1].train_bits if not self._count else self._bits / self._count
        line = f"{self.part:6.1%}  step {self._step}  {bits:.3f} bits/token  {speed / 1000:.3g}k tokens/s  eta {left}"
        if whole:
            line += f"  held out: {self.history[-1].valid_bits:.3f} bits/character"
        sys.stderr.write(("\r\x1b[K" if live else "") + line + ("\n" if whole or not live else ""))
        sys.stderr.flush()

    @property
    def _device(self) -> torch.device:
        return next(self.net.parameters()).device

    def _plain(self) -> dict[str, Any]:
        streams = {"batch": self.streams.batch, "steps": self.streams.steps, "length": self.streams.length}
        return {"settings": asdict(self.settings), "streams": streams}

    def _save(self) -> None:
        if self._last is None:
            return
        tensors: dict[str, Tensor] = {f"{MODEL}{name}": value for name, value in weights(self.net).items()}
        info = {
            "config": self._config,
            "net": fingerprint(self.net),
            **self._plain(),
            "position": [self._step, self._seconds, self._bits, self._count],
            "history": [asdict(record) for record in self.history],
            "optimizer": pack(self.optimizer.state_dict(), tensors, "optimizer"),
            "state": pack(self._state, tensors, "state"),
        }
        write_archive(self._last, tensors, info)
        with (self._last.parent / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, [field.name for field in fields(TextRecord)])
            table.writeheader()
            table.writerows(asdict(record) for record in self.history)

    def _load(self, path: Path) -> None:
        remove_leftovers(path)
        tensors, info = read_archive(path)
        for key, now in (self._plain() | {"config": self._config}).items():
            if info.get(key) != _as_json(now):
                raise CheckpointError(
                    f"{path}: this run was started with {key} = {info.get(key)!r} and cannot go on with {now!r}. "
                    "Keep the settings, choose another run_dir (--out), or start again with resume=False (--fresh)"
                )
        insert(self.net, tensors, info, path)
        try:
            self.optimizer.load_state_dict(unpack(info["optimizer"], tensors))
            self._step, self._seconds, self._bits, self._count = info["position"]
            self.history = [TextRecord(**record) for record in info["history"]]
            state = unpack(info["state"], tensors)
            self._state = None if state is None else map_state(lambda value: value.to(self._device), state)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: does not hold a run that can be continued here ({error!r})") from error


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else value
