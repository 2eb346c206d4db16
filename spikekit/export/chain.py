"""A network read as a flat chain of plain layers; whatever their weights cannot tell is refused."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from spikekit.errors import ExportError
from spikekit.neurons import IF, LI, LIF
from spikekit.norm import TDBN1d, TDBN2d
from spikekit.sequential import FoldTime, Sequential

# Ours before those they are derived from.
_NORMS = (TDBN1d, TDBN2d, nn.BatchNorm1d, nn.BatchNorm2d)
_LAYERS = (nn.Conv2d, nn.Linear, *_NORMS, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, IF, LIF, LI)
_CHAINS = (Sequential, nn.Sequential)
# What a subclass may not redefine: the arithmetic that the plan takes from the base class.
_METHODS = ("forward", "_conv_forward", "integrate", "__call__")
_WAYS_OUT = {
    "MaxPool2d": "use a strided convolution: the maximum of spikes is not a sum of synapses",
    "AvgPool2d": "use a strided convolution until pooling is exported",
    "ReLU": "remove it: spikes are the non-linearity",
    "LayerNorm": "use BatchNorm, which folds into the weights",
    "CUBALIF": "its synaptic current is not in the integer model of an LIF; train with sk.LIF instead",
    "RecurrentLIF": "its spikes come back to it, and a plan is a chain; train without, with sk.LIF instead",
}


def flat(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every layer of `net` with its path, in the order of the forward pass; a layer used twice comes twice.

    net: an `sk.Sequential`, nested ones and `fold_time` included, or one neuron. Raises ExportError, naming the layer
    and the way out, for other layers, for subclasses that change the arithmetic, for hooks and parametrizations.
    """
    return _flat(net, "")


def _flat(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    name = f"layer {path} ({type(module).__name__})" if path else type(module).__name__
    if isinstance(module, FoldTime):
        _check_plain(name, module, FoldTime)
        yield from _flat(module.module, path)
    elif chain := _kind(module, _CHAINS):
        _check_plain(name, module, chain)
        # Not named_children: it leaves out a layer that is used a second time.
        for key, child in module._modules.items():
            place = f"{path}.{key}".lstrip(".")
            if child is None:
                raise ExportError(f"layer {place} is None; take it out of the chain, or put nn.Identity() there")
            yield from _flat(child, place)
    elif layer := _kind(module, _LAYERS):
        _check_plain(name, module, layer)
        _check_threshold(name, module)
        yield path or "0", module
    elif way := _way_out(module):
        raise ExportError(f"{name} cannot be exported: {way}.")
    elif path:
        raise ExportError(
            f"{name} cannot be exported: replace it by Conv2d, Linear, BatchNorm, Flatten and LIF, IF or LI layers."
        )
    else:
        raise ExportError(
            f"{name} has a forward of its own, which cannot be read as a chain of layers. "
            "Build the network as an sk.Sequential."
        )


def _way_out(module: nn.Module) -> str | None:
    """What to do about a layer that is known and not exported, or is derived from one."""
    return next((_WAYS_OUT[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in _WAYS_OUT), None)


def _kind(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> type[nn.Module] | None:
    return next((kind for kind in kinds if isinstance(module, kind)), None)


def _check_threshold(name: str, module: nn.Module) -> None:
    norm = getattr(module, "norm", None)
    if norm is not None:
        raise ExportError(
            f"{name} decides on a normalised membrane (norm={norm}), and folding it into the thresholds is not there "
            "yet; train a network without norm= for export"
        )


def _check_plain(name: str, module: nn.Module, kind: type[nn.Module]) -> None:
    for method in _METHODS:
        own = method in module.__dict__ or getattr(type(module), method, None) is not getattr(kind, method, None)
        if own:
            raise ExportError(
                f"{name} defines {method} itself, which its weights cannot tell; use {kind.__name__} itself"
            )
    if is_parametrized(module):
        raise ExportError(
            f"{name} is parametrized; make its weights plain first with torch.nn.utils.parametrize."
            "remove_parametrizations(module, name)"
        )
    if module._forward_hooks or module._forward_pre_hooks:
        raise ExportError(
            f"{name} has a forward hook, which may change what passes through it; remove the hook (of weight_norm or "
            "spectral_norm: with torch.nn.utils.remove_weight_norm or remove_spectral_norm)"
        )
