"""Network architectures, one family a file. `build` makes one from the plain description a checkpoint stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spikekit.errors import InputError
from spikekit.models.convnet import event_conv
from spikekit.models.mlp import mlp
from spikekit.sequential import Sequential

__all__ = ["MODELS", "build", "event_conv", "mlp"]

MODELS: dict[str, Callable[..., Sequential]] = {"event_conv": event_conv, "mlp": mlp}


def build(name: str, arguments: Mapping[str, Any] | None = None) -> Sequential:
    """The model `name` of `MODELS`, with random weights. Raises InputError for unknown names and arguments."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; choose one of {sorted(MODELS)}")
    try:
        return MODELS[name](**(arguments or {}))
    except TypeError as error:
        raise InputError(f"model {name!r}: {error}") from error
