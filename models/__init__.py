"""Network architectures, one family a file. `build` makes one from the plain description a checkpoint stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from spikekit.errors import InputError
from spikekit.models.astro_lm import AstroLM, AstroLMConfig, preset
from spikekit.models.convnet import convnet, event_conv
from spikekit.models.ems import EMSYOLO, ems_res10, ems_res18, ems_res34
from spikekit.models.ems_blocks import EMSBlock, checkpoint_blocks, verify_binary
from spikekit.models.exact import ExactReadout, SpikeLinear, weights_held
from spikekit.models.mlp import mlp
from spikekit.models.neuron import neuron_factory
from spikekit.models.resnet import ResidualBlock, resnet19, resnet20
from spikekit.models.vgg import vgg16
from spikekit.sequential import Sequential

Net = TypeVar("Net", bound=nn.Module)

__all__ = [
    "DETECTORS",
    "EMSBlock",
    "EMSYOLO",
    "MODELS",
    "AstroLM",
    "AstroLMConfig",
    "ExactReadout",
    "ResidualBlock",
    "SpikeLinear",
    "build",
    "build_detector",
    "checkpoint_blocks",
    "convnet",
    "ems_res10",
    "ems_res18",
    "ems_res34",
    "event_conv",
    "mlp",
    "neuron_factory",
    "preset",
    "resnet19",
    "resnet20",
    "verify_binary",
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

DETECTORS: dict[str, Callable[..., EMSYOLO]] = {
    "ems_res10": ems_res10,
    "ems_res18": ems_res18,
    "ems_res34": ems_res34,
}


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Sequential:
    """The model `name` of `MODELS`, with random weights. Raises InputError for unknown names and arguments."""
    return _build(MODELS, "model", name, arguments)


def build_detector(name: str, arguments: Mapping[str, Any] | None = None) -> EMSYOLO:
    """The detector `name` of `DETECTORS`, with random weights. Raises InputError for unknown names and arguments."""
    return _build(DETECTORS, "detector", name, arguments)


def _build(known: Mapping[str, Callable[..., Net]], what: str, name: str, arguments: Mapping[str, Any] | None) -> Net:
    if name not in known:
        raise InputError(f"unknown {what} {name!r}; choose one of {sorted(known)}")
    try:
        return known[name](**(arguments or {}))
    except TypeError as error:
        raise InputError(f"{what} {name!r}: {error}") from error
