"""What every import shares: a chain of layers under construction, and neurons from one value a neuron."""

from __future__ import annotations

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
    """Layers in the order of the forward pass.

    Parameters of the peers broadcast as torch's tensors do, from the last axis on; ours are one a channel where they
    have one axis. So a chain knows how many axes its neurons have, as far as its layers tell.
    """

    def __init__(self, surrogate: Surrogate | None = None) -> None:
        self._layers: list[nn.Module] = []
        self._surrogate = surrogate
        self._axes: int | None = None
        self._gain: Tensor | None = None

    def add(self, layer: nn.Module) -> None:
        """Append a layer without state."""
        self._layers.append(layer)
        self._axes = axes_after(layer, self._axes)

    def drive(self, name: str, gain: Tensor) -> None:
        """Scale what the next neuron receives by `gain`, one value or one a neuron.

        It goes into the weights directly in front, else what fires is compared with a threshold that much smaller.
        """
        if bool(((gain - 1).abs() < _ROUNDING).all()):
            return
        front = self._layers[-1] if self._layers else None
        placed = self.place(name, "input gain", gain)
        if not isinstance(front, (nn.Linear, nn.Conv1d, nn.Conv2d)) or placed.ndim > 1 or _watched(front):
            self._gain = gain
            return
        with torch.no_grad():
            front.weight.mul_(placed.reshape(-1, *[1] * (front.weight.ndim - 1)).to(front.weight))
            if front.bias is not None:
                front.bias.mul_(placed.to(front.bias))

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
        if self._gain is not None:
            gain, self._gain = self._gain, None
            if not bool((gain > 0).all()):
                raise ExportError(self._no_weights(name, gain))
            threshold = threshold / gain
            quantum = None if quantum is None else quantum / gain
        settings: dict[str, Any] = {"reset": reset, "inclusive": inclusive, "surrogate": self._surrogate}
        beta, threshold = self.place(name, "decay", beta), self.place(name, "threshold", threshold)
        if reset == "soft" and quantum is not None:
            quantum = self.place(name, "reset", quantum)
            if not bool((quantum > 0).all()):
                # Only FoldedLIF subtracts what is not above 0.
                rule = LIFRule(reset, inclusive, False, self._surrogate or ATan())
                one = torch.ones_like(threshold)
                self._layers.append(FoldedLIF(beta, threshold, quantum, one, one, rule))
                return
            settings["reset_quantum"] = quantum
        # The reset of every peer is outside the graph.
        settings["detach_reset"] = True
        try:
            if alpha is not None:
                self._layers.append(CUBALIF(self.place(name, "synaptic decay", alpha), beta, threshold, **settings))
            elif beta.ndim == 0 and float(beta) == 1:
                self._layers.append(IF(threshold, **settings))
            else:
                self._layers.append(LIF(beta, threshold, **settings))
        except InputError as error:
            raise ExportError(f"{name}: {error}") from error

    def integrate(self, name: str, beta: Tensor) -> None:
        """Append a leaky integrator."""
        if self._gain is not None:
            raise ExportError(self._no_weights(name, self._gain))
        self._layers.append(LI(self.place(name, "decay", beta)))

    def place(self, name: str, what: str, values: Tensor) -> Tensor:
        """Values that broadcast from the last axis on, as a neuron of ours takes them at this place in the chain."""
        values = values.detach().clone()
        if values.numel() == 0:
            raise ExportError(f"{name}: its {what} holds no value")
        if bool((values == values.flatten()[0]).all()) and (values.numel() == 1 or self._axes is None):
            return values.flatten()[0].clone()
        axes = self._axes
        if axes is None:
            return values
        while values.ndim > axes and len(values) == 1:
            values = values[0]
        shape = (*[1] * (axes - values.ndim), *values.shape)
        front = self._layers[-1] if self._layers else None
        features = next((getattr(front, key) for key in ("out_features", "out_channels") if hasattr(front, key)), None)
        axis = -1 if isinstance(front, nn.Linear) else 0
        if len(shape) > axes or (features is not None and shape[axis] not in (1, features)):
            raise ExportError(
                f"{name}: its {what} has the shape {tuple(values.shape)}, which does not fit the {features or ''} "
                f"{'features' if isinstance(front, nn.Linear) else 'channels'} of a layer with {axes} axes a sample"
            )
        return compact(values.reshape(shape))

    def _no_weights(self, name: str, gain: Tensor) -> str:
        return (
            f"{name} scales its input by {gain.flatten()[0]:.4g}, and no Linear or Conv layer directly in front "
            "has weights to put that into; add one, or scale its input before"
        )

    def sequential(self, training: bool = True) -> Sequential:
        """The network; training=False: in eval mode."""
        if not self._layers:
            raise ExportError("there is no layer to import")
        net = Sequential(*self._layers)
        return net if training else net.eval()


def axes_after(layer: nn.Module, axes: int | None) -> int | None:
    """How many axes one sample has behind a layer of torch's, given those in front; None where nothing tells."""
    kind = type(layer).__name__
    if isinstance(layer, nn.Flatten):
        if axes is None:
            return 1 if (layer.start_dim, layer.end_dim) == (1, -1) else None
        start, end = (dim if dim >= 0 else dim + axes + 1 for dim in (layer.start_dim, layer.end_dim))
        return axes - (end - start)
    if isinstance(layer, nn.Linear):
        return axes or 1
    if isinstance(layer, nn.Unflatten):
        return None
    # Of BatchNorm1d and Dropout1d the input may have an axis less.
    if kind[-2:] in ("2d", "3d") or (kind[-2:] == "1d" and ("Conv" in kind or "Pool" in kind)):
        return int(kind[-2]) + 1
    return axes


def _watched(layer: nn.Module) -> bool:
    """Whether scaled weights would not scale the output: a hook may make either anew."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def compact(values: Tensor) -> Tensor:
    """One value a neuron [C, ...] as one number or one a channel where that says the same."""
    first = values.flatten()[0]
    if bool((values == first).all()):
        return first.clone()
    per_channel = values.reshape(len(values), -1)
    if values.ndim > 1 and bool((per_channel == per_channel[:, :1]).all()):
        return per_channel[:, 0].clone()
    return values
