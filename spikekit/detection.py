"""Training of a detector in one YAML file: the `Recipe` of tasks whose target is boxes, told by `task: detection`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import torch
from torch import nn, optim
from torch.utils.data import DataLoader

from spikekit.cli import PRECISIONS
from spikekit.datasets import BCCD, BoxColour, BoxCompose, BoxDataset, BoxFlip, BoxScale, NMNISTMosaic
from spikekit.detect import DetectionLoss, Grid, Precision, average_precision, detect, fit_anchors
from spikekit.errors import CheckpointError, InputError
from spikekit.keys import check_keys, choose, naming, number
from spikekit.models import DETECTORS, EMSYOLO, build_detector, checkpoint_blocks
from spikekit.models.ems import ems_yolo
from spikekit.recipe import optimizer_settings, parameter_groups
from spikekit.train import WarmCosine

_CHANNELS: Final = {"nmnist-mosaic": 2, "bccd": 3}
_CLASSES: Final = {"nmnist-mosaic": NMNISTMosaic.kinds, "bccd": BCCD.kinds}
_AUGMENT: Final = {"flip": (BoxFlip, "p"), "scale": (BoxScale, "scale"), "colour": (BoxColour, "")}


@dataclass(frozen=True)
class DetectionRecipe:
    """What a run of a detector is made of, in plain values.

    data: "nmnist-mosaic" or "bccd". steps: T. scenes: of N-MNIST mosaic alone, how many to train on. size: of BCCD
    alone, (width, height) of the frame, multiples of 32. model: {"name": ...} of `spikekit.models.DETECTORS` with its
    arguments, but channels, classes and anchors. anchors: "fit" to the training boxes, or [2, 3, 2] pixels.
    loss: weights "box", "obj" and "cls" of `DetectionLoss`, the authors' without.
    epochs, batch, optimizer, warmup, clip_norm, seed, precision: as in `Recipe`. ema: decay of the average of the
    weights that is judged, None for none. checkpoint: less memory for more time, see `checkpoint_blocks`.
    augment: "mosaic" (probability), "flip" (probability; or {p, vertical}), "scale" (of ± so much; or its settings),
    "colour". workers: processes that make the training batches.
    """

    data: str
    model: Mapping[str, Any]
    anchors: Any = "fit"
    steps: int = 4
    scenes: int = 1000
    size: tuple[int, int] = (320, 256)
    epochs: int = 30
    batch: int = 16
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"name": "adamw"})
    loss: Mapping[str, float] = field(default_factory=dict)
    warmup: float = 0.1
    ema: float | None = 0.999
    augment: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    checkpoint: bool = False
    seed: int = 0
    workers: int = 0
    precision: str = "32-true"

    def __post_init__(self) -> None:
        choose(self.data, _CLASSES, "data")
        choose(self.precision, PRECISIONS, "precision")
        if not isinstance(self.size, list | tuple):
            raise InputError(f"size must be [width, height], multiples of 32, got {self.size!r}")
        for key, least in (("steps", 1), ("scenes", 1), ("epochs", 1), ("batch", 1), ("seed", 0), ("workers", 0)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{key} must be a whole number, {least} or more, got {value!r}")
        if not isinstance(self.checkpoint, bool):
            raise InputError(f"checkpoint must be true or false, got {self.checkpoint!r}")
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or any(not isinstance(side, int) or side < 32 or side % 32 for side in self.size):
            raise InputError(f"size must be [width, height], multiples of 32, got {list(self.size)}")
        unused = "scenes" if self.data == "bccd" else "size"
        (default,) = (entry.default for entry in fields(self) if entry.name == unused)
        if getattr(self, unused) != default:
            raise InputError(f"{unused} is not a setting of the data {self.data!r}; leave it out")
        named = dict(check_keys(self.model, ("name", *_model_keys(self.model)), "model"))
        for taken in ("in_channels", "classes", "anchors"):
            if taken in named:
                raise InputError(f"model: {taken} comes from the data; leave it out")
        # What cannot be made is to be found before any data is loaded.
        WarmCosine(number(self.warmup, "warmup"))
        kind, settings, _ = optimizer_settings(self.optimizer)
        with naming("optimizer"):
            kind([torch.zeros(1, requires_grad=True)], **settings)
        self.transform()
        if not 0 <= self._mosaic() <= 1:
            raise InputError(f"augment: mosaic must be between 0 and 1, got {self._mosaic()}")
        if self.clip_norm is not None and not number(self.clip_norm, "clip_norm") > 0:
            raise InputError(f"clip_norm must be above 0, or null for none, got {self.clip_norm!r}")
        for key, value in check_keys(self.loss, ("box", "obj", "cls"), "loss").items():
            if number(value, f"loss: {key}") < 0:
                raise InputError(f"loss: {key} must be 0 or more, got {value!r}")
        if self.ema is not None and not 0 < number(self.ema, "ema") < 1:
            raise InputError(f"ema must be between 0 and 1, or null for none, got {self.ema!r}")
        with naming("model"), torch.random.fork_rng(devices=[]):
            self.build(None if self.anchors == "fit" else self.anchors)

    def dataset(self, split: str) -> BoxDataset:
        """The samples of "train", "val" or "test"."""
        if self.data == "bccd":
            return BCCD(split, size=self.size, steps=self.steps)
        return NMNISTMosaic(split, count=self.scenes if split == "train" else None, steps=self.steps)

    @property
    def channels(self) -> int:
        """Of a frame: 2 polarities of events, or 3 colours."""
        return _CHANNELS[self.data]

    @property
    def dataset_classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return _CLASSES[self.data]

    def loaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Batches to train on, augmented and in an order of the seed, and those that each epoch is judged on."""
        train = self.dataset("train").loader(
            self.batch,
            shuffle=True,
            seed=self.seed,
            drop_last=True,
            transform=self.transform(),
            mosaic=self._mosaic(),
            workers=self.workers,
        )
        return train, self.dataset("val").loader(self.batch)

    def _mosaic(self) -> float:
        return number(self.augment.get("mosaic", 0), "augment: mosaic")

    def transform(self) -> BoxCompose | None:
        """What `augment` does to a sample, behind the mosaic."""
        chosen = []
        known = check_keys(self.augment, ("mosaic", *_AUGMENT), "augment")
        for key, (kind, main) in _AUGMENT.items():
            value = known.get(key, False)
            if value is False:
                continue
            given = dict(value) if isinstance(value, Mapping) else {} if value is True else {main: value}
            if kind is BoxScale:
                given.setdefault("nearest", self.data != "bccd")
            with naming(f"augment: {key}"):
                chosen.append(kind(**given))
        return BoxCompose(tuple(chosen)) if chosen else None

    def resolved(self) -> DetectionRecipe:
        """The same recipe with its anchors in numbers."""
        if self.anchors != "fit":
            return self
        return type(self)(**{**asdict(self), "anchors": fit_anchors(self.dataset("train").sizes())})

    def build(self, anchors: Any = "own") -> EMSYOLO:
        """The detector, with random weights. anchors: None for the model's own."""
        arguments = {key: value for key, value in self.model.items() if key != "name"}
        sizes = self.anchors if anchors == "own" else anchors
        if sizes == "fit":
            raise InputError("anchors are to be fitted first; call resolved()")
        arguments |= {} if sizes is None else {"anchors": sizes}
        arguments |= {"in_channels": self.channels, "classes": len(self.dataset_classes)}
        net = build_detector(self.model["name"], arguments)
        return checkpoint_blocks(net) if self.checkpoint else net

    def grid(self, net: EMSYOLO) -> Grid:
        """The places of its predictions on this data."""
        return Grid.of(net, (128, 128) if self.data == "nmnist-mosaic" else self.size)

    def trainer(self, net: EMSYOLO) -> dict[str, Any]:
        """Keyword arguments of `Trainer` for `net`, beside run_dir and devices."""
        kind, settings, decay_all = optimizer_settings(self.optimizer)

        def make(_: Any) -> optim.Optimizer:
            return kind(parameter_groups(net, decay_all), **settings)

        return {
            "optimizer": make,
            "loss": DetectionLoss(self.grid(net), **{key: float(value) for key, value in self.loss.items()}),
            "schedule": WarmCosine(number(self.warmup, "warmup")),
            "clip_norm": None if self.clip_norm is None else number(self.clip_norm, "clip_norm"),
            "ema": None if self.ema is None else number(self.ema, "ema"),
            "seed": self.seed,
            "precision": self.precision,
            "config": {"detection": asdict(self)},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: object) -> DetectionRecipe:
        """The recipe stored with a checkpoint; CheckpointError naming `where` when there is none."""
        try:
            return cls(**config["detection"])
        except (KeyError, TypeError, InputError) as error:
            raise CheckpointError(
                f"{where}: describes no detector ({error}); train one with: spikekit train ems_mosaic --out RUN"
            ) from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: object) -> DetectionRecipe:
        """The recipe of a YAML file's values, without `task`; InputError naming `where` and the key."""
        check_keys(values, [entry.name for entry in fields(cls)], str(where))
        if missing := [key for key in ("data", "model") if key not in values]:
            raise InputError(f"{where}: the key {missing[0]!r} is missing")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


@torch.no_grad()
def judge(net: nn.Module, data: BoxDataset, grid: Grid, batch: int = 16, confidence: float = 0.001) -> Precision:
    """Mean average precision of `net` on `data`; the network runs in eval mode, where it is, and stays in its mode."""
    modes = [(module, module.training) for module in net.modules()]
    device = next(net.parameters()).device
    found = []
    try:
        net.eval()
        for x, _ in data.loader(batch):
            found += detect(net(x.to(device)), grid, confidence)
    finally:
        for module, mode in modes:
            module.training = mode
    return average_precision(found, data.boxes, data.classes)


def _model_keys(model: Any) -> tuple[str, ...]:
    if not isinstance(model, Mapping) or "name" not in model:
        raise InputError(
            f"model must have a name and arguments, such as {{name: ems_res10, width: 0.5}}; got {model!r}"
        )
    choose(model["name"], DETECTORS, "model: name")
    return tuple(key for key in inspect.signature(ems_yolo).parameters if key != "depth")
