"""Saving and loading a network's weights, with the configuration that rebuilds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spikekit.errors import CheckpointError, InputError
from spikekit.train.archive import check_writable, read_archive, remove_leftovers, write_archive
from spikekit.train.fingerprint import fingerprint, first_difference

# In a training checkpoint the weights stand beside the optimizer's tensors, under this prefix.
MODEL = "model/"


def save(net: nn.Module, path: str | os.PathLike[str], config: Mapping[str, Any] | None = None) -> None:
    """Write the weights of `net` to one safetensors file, atomically.

    config: plain JSON values, for example {"model": {"name": "mlp", "args": {...}}}; `read_config` returns
    it. Tensor names in the file are those of net.state_dict(). Raises CheckpointError when the file cannot be
    written.
    """
    target = Path(path)
    check_writable(target.parent)
    remove_leftovers(target)
    bare = plain(net)
    write_archive(target, weights(bare), {"config": dict(config or {}), "net": fingerprint(bare)})


def load_weights(net: nn.Module, path: str | os.PathLike[str], *, strict: bool = True) -> None:
    """Load the weights of `save`, or of a Trainer's checkpoint, into `net`, on whatever device it is.

    strict=False accepts other settings of the layers (a stride, a surrogate) as long as structure and shapes
    agree. Raises CheckpointError when the file is damaged or belongs to another architecture; `net` is then
    unchanged.
    """
    tensors, info = read_archive(Path(path))
    insert(plain(net), tensors, info, path, strict=strict)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration stored with the weights at `path`; empty when none was given."""
    config = read_archive(Path(path))[1].get("config", {})
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: its configuration is a {type(config).__name__}, expected an object")
    return config


def plain(net: nn.Module) -> nn.Module:
    """`net` itself, without the wrapper of torch.compile, which would change the names of its weights."""
    inner = getattr(net, "_orig_mod", net)
    return inner if isinstance(inner, nn.Module) else net


def weights(net: nn.Module) -> dict[str, Tensor]:
    """The state of `net`, all of it tensors."""
    state: dict[str, Tensor] = net.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"the state of {type(net).__name__} holds {name!r}, a {type(value).__name__}, not a tensor"
            )
    return state


def insert(
    net: nn.Module, tensors: Mapping[str, Tensor], info: Mapping[str, Any], path: Any, *, strict: bool = True
) -> None:
    """Put the weights among `tensors` into `net` once its architecture has been compared."""
    stored = info.get("net")
    try:
        difference = first_difference(stored, fingerprint(net), settings=strict)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description of the network is damaged ({error!r})") from error
    if difference is not None:
        raise CheckpointError(f"{path}: saved from another architecture: {difference}")
    of_model = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)} or dict(tensors)
    try:
        net.load_state_dict(of_model)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit the network ({error})") from error
