"""What every import shares: a chain of layers under construction, and neurons from one value a neuron."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from copy import deepcopy
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError
from spikekit.neurons import CUBALIF, IF, LI, LIF, FoldedLIF
from spikekit.ops.lif import LIFRule
from spikekit.sequential import Sequential
from spikekit.surrogate import ATan, Surrogate

# A gain this near to 1 is the rounding of the constants that it was computed from.
_ROUNDING = 1e-5


class Chain:
    """Layers in the order of the forward pass; a neuron's input gain goes into the weights in front of it."""

    def __init__(self, surrogate: Surrogate | None = None) -> None:
        self._layers: list[nn.Module] = []
        self._surrogate = surrogate

    def add(self, layer: nn.Module) -> None:
        """Append a layer without state."""
        self._layers.append(layer)

    def drive(self, name: str, gain: Tensor) -> None:
        """Scale what the next neuron receives by `gain`, one value or one a neuron.

        Raises ExportError where no Linear or Conv directly in front has a row for each value.
        """
        if bool(((gain - 1).abs() < _ROUNDING).all()):
            return
        front = self._layers[-1] if self._layers else None
        gain = compact(gain)
        if not isinstance(front, (nn.Linear, nn.Conv1d, nn.Conv2d)) or gain.ndim > 1:
            raise ExportError(
                f"{name} scales its input by {gain.flatten()[0]:.4g}, and no Linear or Conv layer directly in front "
                "has weights to put that into; add one, or scale its input before"
            )
        with torch.no_grad():
            front.weight.mul_(gain.reshape(-1, *[1] * (front.weight.ndim - 1)).to(front.weight))
            if front.bias is not None:
                front.bias.mul_(gain.to(front.bias))

    def fire(
        self,
        name: str,
        *,
        beta: Tensor,
        threshold: Tensor,
        reset: str,
        quantum: Tensor | None = None,
        inclusive: bool = False,
        alpha: Tensor | None = None,
    ) -> None:
        """Append a neuron that fires: IF, LIF, or CUBALIF where alpha is given.

        A soft reset without a quantum subtracts the threshold.
        """
        if not bool((threshold > 0).all()):
            raise ExportError(f"{name} fires at {threshold.min():.4g} above rest; our thresholds are above 0")
        settings: dict[str, Any] = {"reset": reset, "inclusive": inclusive, "surrogate": self._surrogate}
        if reset == "soft" and quantum is not None:
            if not bool((quantum > 0).all()):
                # Only FoldedLIF subtracts what is not above 0.
                rule = LIFRule(reset, inclusive, False, self._surrogate or ATan())
                ones = torch.ones_like(threshold)
                self._layers.append(FoldedLIF(beta, threshold, quantum, ones, ones, rule))
                return
            settings["reset_quantum"] = compact(quantum)
        # The reset of every peer is outside the graph.
        settings["detach_reset"] = True
        beta, threshold = compact(beta), compact(threshold)
        if alpha is not None:
            self._layers.append(CUBALIF(compact(alpha), beta, threshold, **settings))
        elif beta.ndim == 0 and float(beta) == 1:
            self._layers.append(IF(threshold, **settings))
        else:
            self._layers.append(LIF(beta, threshold, **settings))

    def integrate(self, beta: Tensor) -> None:
        """Append a leaky integrator."""
        self._layers.append(LI(compact(beta)))

    def sequential(self) -> Sequential:
        """The network."""
        if not self._layers:
            raise ExportError("there is no layer to import")
        return Sequential(*self._layers)


def peer(name: str) -> ModuleType:
    """Import the library whose network is read; no extra brings it, since who has the network has it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name.partition('.')[0]} could not be imported ({error}), so no network of it can be read"
        ) from error


def flatten(net: Any, path: str = "") -> list[tuple[str, nn.Module]]:
    """Every layer of a chain with its path. Raises ExportError for a module with a forward of its own."""
    if isinstance(net, nn.Module) and type(net).forward is nn.Sequential.forward:
        pairs = [(str(name), child) for name, child in net.named_children()]
    elif isinstance(net, Sequence):
        pairs = [(str(index), child) for index, child in enumerate(net)]
    else:
        return [(path or "0", net)]
    return [found for name, child in pairs for found in flatten(child, f"{path}.{name}".lstrip("."))]


def plain(where: str, layer: nn.Module) -> nn.Module:
    """The layer, if it is one of torch's own, which mean the same in both."""
    if not type(layer).__module__.startswith("torch.nn.modules"):
        raise ExportError(
            f"{where} is not read. Give an nn.Sequential, or the layers in the order of the forward pass: "
            "[net.fc1, net.lif1, ...]"
        )
    return layer


def copied(layer: nn.Module) -> nn.Module:
    """A copy of a layer of torch's, so that scaling its weights leaves the original as it was."""
    return deepcopy(layer)


def compact(values: Tensor) -> Tensor:
    """One value a neuron [C, ...] as one number or one a channel where that says the same."""
    values = values.detach().clone()
    if values.ndim == 0 or values.numel() == 0:
        return values
    first = values.flatten()[0]
    if bool((values == first).all()):
        return first.clone()
    per_channel = values.reshape(len(values), -1)
    if values.ndim > 1 and bool((per_channel == per_channel[:, :1]).all()):
        return per_channel[:, 0].clone()
    return values
