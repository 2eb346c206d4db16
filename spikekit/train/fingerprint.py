"""What a network is, apart from its numbers: so that weights are never loaded into another one."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from torch import nn

from spikekit.neurons import Neuron

# Their settings act in training alone, and are changed on purpose between training and fine-tuning.
_TRAINING_ONLY = (nn.modules.dropout._DropoutNd,)


def fingerprint(net: nn.Module) -> dict[str, Any]:
    """The modules of `net` (name, type, settings) and the shapes of its state, as plain JSON.

    Settings are those of torch's own layers, of neurons and of their parts: a stride, a kernel size, a reset rule.
    Values that are tensors, such as beta, belong to the state.
    """
    modules = [[name, type(module).__name__, _settings(module)] for name, module in net.named_modules()]
    tensors = [[name, list(value.shape)] for name, value in net.state_dict().items() if hasattr(value, "shape")]
    return {"modules": modules, "tensors": tensors}


def first_difference(stored: dict[str, Any], present: dict[str, Any], *, settings: bool = True) -> str | None:
    """Where two fingerprints differ first, in words, or None; settings=False ignores the settings."""
    for old, new in zip_longest(stored["modules"], present["modules"]):
        if old is None or new is None:
            name, kind, _ = old or new
            has, lacks = ("checkpoint", "network") if new is None else ("network", "checkpoint")
            return f"the {has} has a module {name!r} ({kind}) that the {lacks} lacks"
        if old[:2] != new[:2]:
            return f"the checkpoint has {old[0]!r} ({old[1]}) where the network has {new[0]!r} ({new[1]})"
        if settings and old[2] != new[2]:
            return f"{old[0]!r} is {old[1]}({old[2]}) in the checkpoint and {new[1]}({new[2]}) in the network"
    shapes_old, shapes_new = dict(stored["tensors"]), dict(present["tensors"])
    for name in [*shapes_old, *shapes_new]:
        if shapes_old.get(name) != shapes_new.get(name):
            texts = [
                "absent" if s is None else f"of shape {tuple(s)}" for s in (shapes_old.get(name), shapes_new.get(name))
            ]
            return f"{name!r} is {texts[0]} in the checkpoint and {texts[1]} in the network"
    return None


def _settings(module: nn.Module) -> str:
    if isinstance(module, Neuron):
        values = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in sorted(values.items()) if " at 0x" not in repr(value))
    if type(module).__module__.startswith(("torch.nn.", "spikekit.norm.")) and not isinstance(module, _TRAINING_ONLY):
        return module.extra_repr()
    return ""
