"""What the imports of live networks share: the other library, its layers in a row, and what cannot be read."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from copy import deepcopy
from types import ModuleType
from typing import Any

from torch import nn

from spikekit.errors import ExportError, InputError


def peer(name: str) -> ModuleType:
    """Import the library whose network is read; no extra brings it, since who has the network has it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name.partition('.')[0]} could not be imported ({error}), so no network of it can be read"
        ) from error


def flatten(net: Any, path: str = "") -> list[tuple[str, nn.Module]]:
    """Every layer of a chain with its path; a layer that is used twice comes twice."""
    if isinstance(net, nn.ModuleList) or (isinstance(net, nn.Module) and type(net).forward is nn.Sequential.forward):
        unhooked(f"layer {path or '0'} ({type(net).__name__})", net)
        # Not named_children: it leaves out a layer that is used a second time.
        pairs = [(str(name), child) for name, child in net._modules.items()]
    elif isinstance(net, Sequence) and not isinstance(net, str):
        pairs = [(str(index), child) for index, child in enumerate(net)]
    else:
        return [(path or "0", net)]
    return [found for name, child in pairs for found in flatten(child, f"{path}.{name}".lstrip("."))]


def copied(where: str, layer: Any) -> nn.Module:
    """A copy of a layer, if it is one of torch's own, which mean the same in both.

    Raises ExportError for another layer, and for one that cannot be copied.
    """
    if not type(layer).__module__.startswith("torch.nn.modules") or isinstance(layer, nn.ModuleDict):
        raise ExportError(
            f"{where} is not read. Give an nn.Sequential, or the layers in the order of the forward pass: "
            "[net.fc1, net.lif1, ...]"
        )
    try:
        return deepcopy(layer)
    except RuntimeError as error:
        raise ExportError(
            f"{where} has weights that are computed from others, and cannot be copied; make them plain first, with "
            "torch.nn.utils.prune.remove or remove_weight_norm"
        ) from error


def unhooked(where: str, layer: nn.Module) -> None:
    """Raise ExportError for a layer whose hooks may change what passes through it, and would be lost."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise ExportError(f"{where} has a forward hook, which would be lost; remove it, or make it a layer of its own")
