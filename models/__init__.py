"""Network architectures, one family a file. `build` makes one from the plain description a checkpoint stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spikekit.errors import InputError
from spikekit.models.astro_lm import AstroLM, AstroLMConfig, preset
from spikekit.models.convnet import convnet, event_conv
from spikekit.models.exact import ExactReadout, SpikeLinear, weights_held
from spikekit.models.mlp import mlp
from spikekit.models.neuron import neuron_factory
from spikekit.models.resnet import ResidualBlock, resnet19, resnet20
from spikekit.models.vgg import vgg16
from spikekit.sequential import Sequential

__all__ = [
    "MODELS",
    "AstroLM",
    "AstroLMConfig",
    "ExactReadout",
    "ResidualBlock",
    "SpikeLinear",
    "build",
    "convnet",
    "event_conv",
    "mlp",
    "neuron_factory",
    "preset",
    "resnet19",
    "resnet20",
    "vgg16",
    "weights_held",
]

MODELS: dict[str, Callable[..., Sequential]] = {
    "convnet": convnet,
    "event_conv": event_conv,
    "mlp": mlp,
    "resnet19": resnet19,
    "resnet20": resnet20,
    "vgg16": vgg16,
}


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Sequential:
    """The model `name` of `MODELS`, with random weights. Raises InputError for unknown names and arguments."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; choose one of {sorted(MODELS)}")
    try:
        return MODELS[name](**(arguments or {}))
    except TypeError as error:
        raise InputError(f"model {name!r}: {error}") from error
