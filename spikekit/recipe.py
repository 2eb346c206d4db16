"""A training run in one YAML file: data, steps, network, neuron, optimiser, schedule, augmentation, seed.

`spikekit train models/recipes/fashion_conv.yaml --out runs/fashion`. Every key has one meaning and is checked before
anything is loaded; what a file does not say has the default of `Recipe`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader

from spikekit import datasets, events
from spikekit.cli import PRECISIONS
from spikekit.errors import InputError, require
from spikekit.keys import check_keys, choose, flag, naming, number
from spikekit.models import MODELS, build, neuron_factory
from spikekit.norm import MPBN
from spikekit.task import DATA, IMAGES, Task
from spikekit.train import CrossEntropy, WarmCosine

if TYPE_CHECKING:
    from spikekit.detection import DetectionRecipe

FOLDER = Path(inspect.getfile(neuron_factory)).parent / "recipes"
"""The recipes that come with the package."""

_OPTIMIZERS: Final[dict[str, tuple[type[optim.Optimizer], dict[str, Any]]]] = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}),
    "adamw": (optim.AdamW, {"lr": 1e-3, "weight_decay": 1e-2}),
}
# The setting that a bare number stands for, if there is one.
_IMAGE_AUGMENT: Final = {
    "crop": (datasets.RandomCrop, "padding"),
    "flip": (datasets.RandomFlip, "p"),
    "cutout": (datasets.Cutout, "size"),
}
_EVENT_AUGMENT: Final = {
    "shift": (events.RandomShift, "pixels"),
    "affine": (events.RandomAffine, ""),
    "elastic": (events.RandomElastic, "pixels"),
    "drop": (events.RandomDrop, "most"),
}
Loader = DataLoader[Any]


@dataclass(frozen=True)
class Recipe:
    """What a run is made of, in plain values.

    data: "nmnist", "saccade-digits", "auto", "mnist", "fashion-mnist" or "cifar10-jpeg". steps: T.
    model: {"name": ...} of `spikekit.models.MODELS` with its arguments. neuron: see `spikekit.models.neuron_factory`.
    validation: samples of the training set, held out of it with every class in proportion, on which each epoch is
    judged; 0 trains on all. The test set is for one look, at the end.
    optimizer: {"name": "sgd" or "adamw", "lr", "weight_decay", ...}; decay_all=False keeps weight decay from biases and
    from the weights of normalisations.
    warmup: part of all steps over which the learning rate rises, before its cosine to zero.
    augment: for images "crop" (padding), "flip", "cutout" (size); for events "shift", "affine", "elastic", "drop":
    true, a number, or the settings of the class.
    """

    data: str
    model: Mapping[str, Any]
    neuron: Mapping[str, Any] | None = None
    steps: int = 4
    validation: int = 0
    epochs: int = 30
    batch: int = 64
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"name": "adamw"})
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augment: Mapping[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    seed: int = 0
    precision: str = "32-true"

    def __post_init__(self) -> None:
        choose(self.data, (*DATA, *IMAGES), "data")
        for key, least in (("steps", 1), ("validation", 0), ("epochs", 1), ("batch", 1), ("seed", 0)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{key} must be a whole number, {least} or more, got {value!r}")
        if self.seed >= 2**64:
            raise InputError(f"seed must be below 2**64, which torch's generators take, got {self.seed}")
        named = dict(check_keys(self.model, ("name", *_arguments(self.model)), "model"))
        if "neuron" in named:
            raise InputError("model: neuron is a key of the recipe itself, beside model")
        choose(self.precision, PRECISIONS, "precision")
        if self.clip_norm is not None and number(self.clip_norm, "clip_norm") <= 0:
            raise InputError(f"clip_norm must be above 0, or null for none, got {self.clip_norm!r}")
        if self.neuron is not None:
            with naming("neuron"):
                neuron_factory(self.neuron)
            if "neuron" not in inspect.signature(MODELS[named["name"]]).parameters:
                raise InputError(f"neuron: the model {named['name']!r} has its own neurons; leave the key out")
        # What cannot be made is to be found before any data is loaded.
        self.loss()
        WarmCosine(self.warmup)
        kind, settings, _ = optimizer_settings(self.optimizer)
        with naming("optimizer"):
            kind([torch.zeros(1, requires_grad=True)], **settings)
        self.transform((0.0,))
        arguments = {key: value for key, value in named.items() if key != "name"}
        neuron = {} if self.neuron is None else {"neuron": self.neuron}
        with naming("model"), torch.random.fork_rng(devices=[]):
            build(named["name"], arguments | neuron)

    def task(self) -> Task:
        """The data and the network."""
        arguments = {key: value for key, value in self.model.items() if key != "name"}
        if self.neuron is not None:
            arguments["neuron"] = dict(self.neuron)
        return Task(self.data, self.steps, self.model["name"], arguments).resolved()

    def loaders(self) -> tuple[Loader, Loader | None]:
        """Batches to train on, augmented and in an order of the seed; batches held out of them, if any."""
        frames = self.task().frames("train")
        source = frames.source if isinstance(frames, datasets.RepeatedImages) else None
        transform = self.transform(() if source is None else source.mean)
        if not self.validation:
            return frames.loader(self.batch, shuffle=True, seed=self.seed, transform=transform), None
        # The part held out is the same for every seed of the training.
        stay, out = datasets.holdout(frames.labels.numpy(), self.validation, seed=0)
        train = frames.loader(self.batch, shuffle=True, seed=self.seed, transform=transform, indices=stay)
        return train, frames.loader(max(self.batch, 100), indices=out)

    def transform(self, mean: tuple[float, ...] = ()) -> Callable[[Tensor], Tensor] | None:
        """What `augment` does to the samples; mean: of the pixels, one a channel, for images."""
        known: Mapping[str, tuple[Any, str]] = _IMAGE_AUGMENT if self.data in IMAGES else _EVENT_AUGMENT
        chosen = []
        for key, value in check_keys(self.augment, known, "augment").items():
            kind, main = known[key]
            if value is False:
                continue
            settings = _settings(value, main, kind, f"augment: {key}")
            if kind is datasets.Cutout:
                # Standardised, the mean is 0.
                settings.setdefault("fill", mean)
            with naming(f"augment: {key}"):
                chosen.append(kind(**settings))
        return events.Compose(*chosen) if chosen else None

    def loss(self) -> CrossEntropy:
        """Cross-entropy of the logits, averaged over time."""
        return CrossEntropy(label_smoothing=number(self.label_smoothing, "label_smoothing"))

    def trainer(self, net: nn.Module) -> dict[str, Any]:
        """Keyword arguments of `Trainer` for `net`, beside run_dir and devices."""
        kind, settings, decay_all = optimizer_settings(self.optimizer)

        def make(_: Any) -> optim.Optimizer:
            return kind(parameter_groups(net, decay_all), **settings)

        return {
            "optimizer": make,
            "loss": self.loss(),
            "schedule": WarmCosine(number(self.warmup, "warmup")),
            "clip_norm": None if self.clip_norm is None else number(self.clip_norm, "clip_norm"),
            "seed": self.seed,
            "precision": self.precision,
            "config": self.config(),
        }

    def config(self) -> dict[str, Any]:
        """Plain values for a checkpoint: the task, from which it is rebuilt, and the whole recipe."""
        return self.task().config() | {"recipe": asdict(self)}


def optimizer_settings(optimizer: Any) -> tuple[type[optim.Optimizer], dict[str, Any], bool]:
    """Class and settings of the optimiser that a recipe names, and whether weight decay is for all parameters."""
    given = dict(optimizer) if isinstance(optimizer, Mapping) else {"name": optimizer}
    kind, defaults = _OPTIMIZERS[choose(given.pop("name", "adamw"), _OPTIMIZERS, "optimizer: name")]
    check_keys(given, (*defaults, "decay_all"), "optimizer")
    decay_all = flag(given.pop("decay_all", True), "optimizer: decay_all")
    settings = defaults | given
    for key, value in settings.items():
        checked = flag if isinstance(defaults[key], bool) else number
        settings[key] = checked(value, f"optimizer: {key}")
    # torch takes both: nothing would be learned, or everything blown up.
    if not settings["lr"] > 0:
        raise InputError(f"optimizer: lr must be above 0, got {settings['lr']}")
    if not 0 <= settings.get("momentum", 0.0) < 1:
        raise InputError(f"optimizer: momentum must be 0 or more and below 1, got {settings['momentum']}")
    return kind, settings, decay_all


def read_recipe(path: str | Path) -> Recipe | DetectionRecipe:
    """The recipe in a YAML file, or one that comes with the package, by its name; `task: detection` tells which kind.

    Raises InputError naming the file, the key and the nearest valid one; MissingExtraError without PyYAML.
    """
    file, values = read_values(path)
    if isinstance(values, Mapping) and "task" in values:
        from spikekit.detection import DetectionRecipe

        choose(values["task"], ("detection",), f"{file}: task")
        return DetectionRecipe.from_values({key: value for key, value in values.items() if key != "task"}, file)
    known = [entry.name for entry in fields(Recipe)]
    check_keys(values, known, str(file))
    if missing := [key for key in ("data", "model") if key not in values]:
        raise InputError(f"{file}: the key {missing[0]!r} is missing")
    try:
        return Recipe(**values)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def read_values(path: str | Path) -> tuple[Path, Any]:
    """The file of a recipe, given by path or by the name of one that comes with the package, and its plain values."""
    yaml = require("yaml", "train")
    file = Path(path)
    if not file.exists() and file.name == str(path) and not file.suffix:
        file = FOLDER / f"{path}.yaml"
    if not file.is_file():
        raise InputError(f"{path}: no such recipe; these come with spikekit: {', '.join(names())}")
    try:
        return file, _loaded(yaml, file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not YAML ({' '.join(str(error).split())})") from error


def _loaded(yaml: Any, text: str) -> Any:
    """The plain values of a YAML text. Raises a YAMLError for a key that is there twice: the last would count."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [(self.construct_object(key, deep=True), key.start_mark) for key, _ in node.value]
            for index, (key, mark) in enumerate(keys):
                if any(key == before for before, _ in keys[:index]):
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", mark)
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader)


def names() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def parameter_groups(net: nn.Module, decay_all: bool) -> list[dict[str, Any]]:
    """All parameters for an optimiser: without decay_all, biases and those of normalisations have no weight decay."""
    trained = [p for p in net.parameters() if p.requires_grad]
    if decay_all:
        return [{"params": trained}]
    norms = (nn.modules.batchnorm._BatchNorm, MPBN)
    spared = {
        id(value)
        for module in net.modules()
        for name, value in module.named_parameters(recurse=False)
        if isinstance(module, norms) or name == "bias"
    }
    return [
        {"params": [p for p in trained if id(p) not in spared]},
        {"params": [p for p in trained if id(p) in spared], "weight_decay": 0.0},
    ]


def _arguments(model: Any) -> tuple[str, ...]:
    if not isinstance(model, Mapping) or "name" not in model:
        raise InputError(f"model must have a name and arguments, such as {{name: convnet, hidden: 128}}; got {model!r}")
    return tuple(inspect.signature(MODELS[choose(model["name"], MODELS, "model: name")]).parameters)


def _settings(value: Any, main: str, kind: Any, where: str) -> dict[str, Any]:
    if value is True:
        return {}
    if isinstance(value, Mapping):
        return dict(check_keys(value, kind.__dataclass_fields__, where))
    if main and isinstance(value, int | float):
        return {main: value}
    raise InputError(f"{where} must be true, {'a number, ' if main else ''}or settings by name, got {value!r}")
