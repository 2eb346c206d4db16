"""The whole state of a training run in one file: what it takes to go on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from spikekit.errors import CheckpointError
from spikekit.measure.activity import ActivityMeter
from spikekit.train.archive import read_archive, remove_leftovers, write_archive
from spikekit.train.averaging import Average
from spikekit.train.checkpoint import MODEL, insert, weights
from spikekit.train.engine import Engine
from spikekit.train.fingerprint import fingerprint
from spikekit.train.metrics import Epoch, Tally
from spikekit.train.pack import pack, unpack
from spikekit.train.seeding import capture_rng

_METER = "meter/"
_AVERAGE = "average/"


@dataclass
class Position:
    """Where training is: whole epochs, batches in the present one, optimizer steps, seconds in this epoch."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch}"


@dataclass
class TrainingState:
    """Everything that changes while training, and the settings that must not.

    settings: plain JSON; a run is only continued under the settings it was started with. rng: what
    `capture_rng` gave in this process, when the state was loaded in the middle of an epoch.
    """

    engine: Engine
    net: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    settings: dict[str, Any]
    config: dict[str, Any]
    meter: ActivityMeter
    tally: Tally
    position: Position = field(default_factory=Position)
    history: list[Epoch] = field(default_factory=list)
    rng: Tensor | None = None
    average: Average | None = None

    @property
    def judged(self) -> nn.Module:
        """The network that is evaluated: that of averaged weights, where there is one."""
        return self.net if self.average is None else self.average.net

    def save(self, path: Path) -> None:
        """Write the state to `path`, atomically; all processes take part, the first one writes."""
        tensors: dict[str, Tensor] = {f"{MODEL}{name}": value for name, value in weights(self.net).items()}
        info: dict[str, Any] = {
            "config": self.config,
            "net": fingerprint(self.net),
            "settings": self.settings,
            "position": asdict(self.position),
            "history": [epoch.to_json() for epoch in self.history],
            "optimizer": pack(self.optimizer.state_dict(), tensors, "optimizer"),
            "scheduler": pack(self.scheduler.state_dict() if self.scheduler else None, tensors, "scheduler"),
            "scaler": pack(self.engine.scaler_state, tensors, "scaler"),
        }
        if self.average is not None:
            tensors |= {f"{_AVERAGE}{name}": value for name, value in self.average.state_dict().items()}
        tensors["rng"] = self.engine.gather(capture_rng(self.engine.device))
        tensors |= self._sums()
        if self.engine.rank == 0:
            write_archive(path, tensors, info)

    def load(self, path: Path) -> None:
        """Continue from `path`; CheckpointError when it is damaged, of another network or other settings."""
        remove_leftovers(path)
        tensors, info = read_archive(path)
        try:
            # The configuration first: other data also has another number of batches, which says less.
            now = {"config": json.loads(json.dumps(self.config)), **self.settings}
            _check_settings(path, {"config": info["config"], **info["settings"]}, now)
            insert(self.net, tensors, info, path)
            self.optimizer.load_state_dict(unpack(info["optimizer"], tensors))
            if self.scheduler is not None:
                self.scheduler.load_state_dict(unpack(info["scheduler"], tensors))
            self.engine.scaler_state = unpack(info["scaler"], tensors)
            if self.average is not None:
                kept = {k.removeprefix(_AVERAGE): v for k, v in tensors.items() if k.startswith(_AVERAGE)}
                self.average.load_state_dict(kept)
            self.position = Position(**info["position"])
            self.history = [Epoch.from_json(values) for values in info["history"]]
            self.rng = tensors["rng"][self.engine.rank]
            # Sums of all processes were stored; the first process carries them on.
            if self.engine.rank == 0:
                device = self.engine.device
                self.tally.sums.copy_(tensors["tally"])
                counts = {k.removeprefix(_METER): v.to(device) for k, v in tensors.items() if k.startswith(_METER)}
                self.meter.load_state_dict(counts)
        except CheckpointError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: does not hold a training run that can be continued here ({error!r}). "
                "Start again with resume=False (--fresh), or take its weights with load_weights"
            ) from error

    def start_epoch_counts(self) -> None:
        """Forget the sums of the last epoch."""
        self.meter.reset()
        self.tally = Tally(self.engine.device)

    def _sums(self) -> dict[str, Tensor]:
        own_counts, own_sums = self.meter.state_dict(), self.tally.sums.clone()
        if self.engine.world > 1:
            self.meter.merge(self.engine.reduce, self.engine.device)
            self.tally.merge(self.engine.reduce)
        merged = {f"{_METER}{name}": value for name, value in self.meter.state_dict().items()}
        merged["tally"] = self.tally.sums.clone()
        self.meter.load_state_dict(own_counts)
        self.tally.sums = own_sums
        return merged


def _check_settings(path: Path, before: Any, now: Any, name: str = "") -> None:
    """Raise CheckpointError naming the first setting, however deep, that is not what the run was started with."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            _check_settings(path, before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        raise CheckpointError(
            f"{path}: this run was started with {name} = {before!r} and cannot go on with {now!r}. "
            "Keep the setting, choose another run_dir (--out), or start again with resume=False (--fresh)"
        )
