"""What training shows while it runs: a live view on a terminal, a line an epoch elsewhere, or nothing."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from spikekit.train.metrics import Epoch, Metrics


class Progress(Protocol):
    """What the training loop reports to; `Trainer(progress=...)` takes one of your own."""

    def start(self, epochs: int, batches: int | None, epoch: int, batch: int) -> None:
        """Training starts after `epoch` whole epochs and `batch` batches; batches: in an epoch, if known."""

    def batch(self, epoch: int, batch: int, measure: Callable[[], Metrics]) -> None:
        """One more batch of `epoch` (from 1) is done; `measure` gives the epoch so far, and is not free."""

    def epoch(self, record: Epoch) -> None:
        """An epoch is finished."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def stop(self) -> None:
        """Training ended, by itself or by an error."""


class NoProgress:
    """Shows nothing."""

    def start(self, epochs: int, batches: int | None, epoch: int, batch: int) -> None:
        """Nothing."""

    def batch(self, epoch: int, batch: int, measure: Callable[[], Metrics]) -> None:
        """Nothing."""

    def epoch(self, record: Epoch) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Clock:
    """Batches a second and the time that is left, measured since training (re)started."""

    def __init__(self, epochs: int, batches: int | None, epoch: int, batch: int) -> None:
        self.epochs, self.batches = epochs, batches
        self._began, self._done = time.monotonic(), 0
        self._left = None if batches is None else (epochs - epoch) * batches - batch

    def tick(self) -> None:
        """One more batch."""
        self._done += 1

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        text = f"{self._done / seconds:.3g} it/s"
        if self._left is not None and self._done:
            text += f"  eta {duration((self._left - self._done) * seconds / self._done)}"
        return text


class PlainProgress:
    """One line an epoch, for logs and notebooks."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._clock: Clock | None = None

    def start(self, epochs: int, batches: int | None, epoch: int, batch: int) -> None:
        """Say where a resumed run goes on."""
        self._clock = Clock(epochs, batches, epoch, batch)
        if epoch or batch:
            self.note(resumed(epochs, epoch, batch))

    def batch(self, epoch: int, batch: int, measure: Callable[[], Metrics]) -> None:
        """Count it."""
        if self._clock is not None:
            self._clock.tick()

    def epoch(self, record: Epoch) -> None:
        """Write the epoch's line."""
        total = self._clock.epochs if self._clock else record.epoch
        self.note(f"epoch {record.epoch}/{total}  {describe(record)}  {self._clock or ''}".rstrip())

    def note(self, text: str) -> None:
        """Write a line."""
        # Looked up now: a test or a notebook may have replaced stderr since.
        stream = self._stream or sys.stderr
        stream.write(text + "\n")
        stream.flush()

    def stop(self) -> None:
        """Nothing is left open."""


class RichProgress:
    """A live view: a bar for the epoch, loss and accuracy so far, the firing rate of every spiking layer."""

    EVERY = 0.25
    """Seconds between updates; each waits for the device."""

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._live: Any = None
        self._bar: Any = None
        self._task: Any = None
        self._clock: Clock | None = None
        self._next = 0.0

    def start(self, epochs: int, batches: int | None, epoch: int, batch: int) -> None:
        """Open the view."""
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        self._clock = Clock(epochs, batches, epoch, batch)
        console = self._console or Console(stderr=True)
        self._bar = Bars(TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"))
        self._task = self._bar.add_task(f"epoch {epoch + 1}/{epochs}", total=batches, completed=batch, text="")
        # Without a refresh thread: a thread that holds a lock while a loader forks its workers can hang them.
        self._live = Live(self._bar, console=console, auto_refresh=False, transient=True)
        self._live.start()
        if epoch or batch:
            self.note(resumed(epochs, epoch, batch))

    def batch(self, epoch: int, batch: int, measure: Callable[[], Metrics]) -> None:
        """Redraw, a few times a second."""
        if self._clock is None:
            return
        self._clock.tick()
        now = time.monotonic()
        if now < self._next:
            return
        from rich.console import Group
        from rich.text import Text

        metrics = measure()
        total = self._clock.batches
        place = f"{batch}/{total}" if total is not None else str(batch)
        self._bar.update(
            self._task,
            description=f"epoch {epoch}/{self._clock.epochs}",
            completed=batch,
            text=f"{place}  {self._clock}  {scores(metrics)}",
        )
        self._live.update(Group(self._bar, Text(f"rates {rates(metrics)}", no_wrap=True, overflow="ellipsis")))
        self._live.refresh()
        self._next = time.monotonic() + self.EVERY

    def epoch(self, record: Epoch) -> None:
        """Leave the epoch's line above the view."""
        total = self._clock.epochs if self._clock else record.epoch
        self.note(f"epoch {record.epoch}/{total}  {describe(record)}")

    def note(self, text: str) -> None:
        """Leave a line above the view."""
        if self._live is not None:
            # Markup would eat the brackets of shapes and paths.
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Close the view."""
        if self._live is not None:
            self._live.stop()


def choose_progress(progress: bool | Progress, rank: int) -> Progress:
    """The view for `Trainer(progress=...)`: True picks by whether stderr is a terminal."""
    if progress is False or rank != 0:
        return NoProgress()
    if progress is not True:
        return progress
    if sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        return RichProgress()
    return PlainProgress()


def scores(metrics: Metrics) -> str:
    """Loss and accuracy in one text."""
    return f"loss {metrics.loss:.4f}  acc {metrics.accuracy:.3f}"


def rates(metrics: Metrics) -> str:
    """Firing rate of each spiking layer."""
    return " ".join(f"{row.name}:{'dead' if row.dead else f'{row.rate:.3f}'}" for row in metrics.layers) or "-"


def describe(record: Epoch) -> str:
    """An epoch in one line."""
    text = f"step {record.step}  {scores(record.train)}"
    if record.val is not None:
        text += f"  val loss {record.val.loss:.4f}  val acc {record.val.accuracy:.3f}"
    return f"{text}  rates {rates(record.train)}  lr {record.lr:.2g}  {duration(record.seconds)}"


def duration(seconds: float) -> str:
    """1:02:03, 2:03 or 4.5s."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def resumed(epochs: int, epoch: int, batch: int) -> str:
    """Where a run goes on."""
    if epoch >= epochs:
        return f"all {epochs} epochs are done already; resume=False (--fresh) starts again"
    return f"going on after epoch {epoch}/{epochs}" + (f" and {batch} batches" if batch else "")
