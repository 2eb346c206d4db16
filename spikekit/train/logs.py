"""Metrics on disk: a CSV table and TensorBoard, both free of duplicates after a resume."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spikekit.errors import CheckpointError, require
from spikekit.files import replacing
from spikekit.train.metrics import Epoch


class Log(Protocol):
    """Takes finished epochs."""

    def write(self, epoch: Epoch) -> None:
        """Add one epoch."""

    def close(self) -> None:
        """Flush to disk."""


def flatten(epoch: Epoch) -> dict[str, float]:
    """The numbers of an epoch by name: "loss", "val_loss", "rate/<layer>", "dead/<layer>" (neurons), ..."""
    values: dict[str, float] = {
        "epoch": epoch.epoch,
        "step": epoch.step,
        "lr": epoch.lr,
        "seconds": epoch.seconds,
    }
    values |= {"loss": epoch.train.loss, "accuracy": epoch.train.accuracy}
    if epoch.val is not None:
        values |= {"val_loss": epoch.val.loss, "val_accuracy": epoch.val.accuracy}
    for row in epoch.train.layers:
        values[f"rate/{row.name}"] = row.rate
        if row.dead_neurons is not None:
            values[f"dead/{row.name}"] = row.dead_neurons
    return values


class CsvLog:
    """`metrics.csv`: one row an epoch; made anew from `history` when opened, and appended to after that."""

    def __init__(self, path: Path, history: Sequence[Epoch]) -> None:
        self.path = path
        self._rows = [flatten(epoch) for epoch in history]
        self._columns: list[str] = []
        self._rewrite()

    def write(self, epoch: Epoch) -> None:
        """Append a row; one with new columns, such as the first with validation, rewrites the table."""
        row = flatten(epoch)
        self._rows.append(row)
        if set(row) - set(self._columns):
            self._rewrite()
            return
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be written ({error}). Free space, or choose another run_dir"
            ) from error

    def close(self) -> None:
        """Every row is on its way to the disk already."""

    def _rewrite(self) -> None:
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with (
            replacing(self.path, CheckpointError) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            if self._columns:
                table = csv.DictWriter(file, self._columns)
                table.writeheader()
                table.writerows(self._rows)


class TensorBoardLog:
    """Scalars for TensorBoard in `folder`; points after `step`, left by a killed run, are hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = require("torch.utils.tensorboard", "train").SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, epoch: Epoch) -> None:
        """Add the numbers of `flatten`, over optimizer steps."""
        for name, value in flatten(epoch).items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, epoch.step)

    def close(self) -> None:
        """Flush to disk."""
        self._writer.close()


def open_logs(run_dir: Path, history: Sequence[Epoch], step: int, tensorboard: bool | None) -> list[Log]:
    """The logs of a run; tensorboard=None writes it when it is installed."""
    logs: list[Log] = [CsvLog(run_dir / "metrics.csv", history)]
    if tensorboard or (tensorboard is None and importlib.util.find_spec("tensorboard") is not None):
        logs.append(TensorBoardLog(run_dir / "tensorboard", step))
    return logs
