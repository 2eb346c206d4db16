"""How a layer without state is called: by the fast way to its numbers where it is torch's own and nothing listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from spikekit.neurons import IF, LI, LIF, FoldedLIF
from spikekit.neurons.together import RunsTogether
from spikekit.norm import TDBN1d, TDBN2d
from spikekit.ops import conv_lif, linear_lif
from spikekit.ops.conv import conv2d, conv2d_reference
from spikekit.ops.conv.cpu import out_size
from spikekit.ops.linear import linear, linear_reference
from spikekit.ops.paths import functorch_active
from spikekit.ops.pool import max_pool2d

# These take images in any order in memory, and give them in the order they took, or contiguous.
_ANY_ORDER = frozenset(
    {
        *(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
        *(nn.Dropout, nn.Dropout2d, nn.Identity, nn.ReLU, nn.Flatten, nn.Linear, nn.BatchNorm1d),
        *(TDBN1d, TDBN2d, LIF, IF, LI, FoldedLIF),
    }
)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

Operation = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Input, weight and bias -> output of a linear or convolution layer, by whichever kernel was chosen for the call."""


class Substitute:
    """What may stand as `forward` in a layer and keeps its numbers: it is given the operation that would have run.

    A learning rule changes a backward pass with it. A hook would do so at the price of another kernel, and of spikes
    that differ where sums are rounded otherwise.
    """

    def around(self, operation: Operation, x: Tensor) -> Tensor:
        """The output of `operation` for x and the layer's weight and bias."""
        raise NotImplementedError(f"{type(self).__name__} must define around(operation, x)")


def apply_stateless(layer: nn.Module, x: Tensor, order: Order | None = None) -> Tensor:
    """`layer(x)` for x [T·B, ...]: nn.Linear and nn.Conv2d sum only what is not zero where that is faster.

    order: follows the images of a chain, since convolutions may put them channels last; without it they do not.
    """
    if type(layer) is nn.Sequential and not altered(layer):
        for part in layer:
            x = apply_stateless(part, x, order)
        return x
    if order is not None:
        x = order.before(layer, x)
    if type(layer) is nn.Linear and not altered(layer):
        return _operate(layer, linear, x)
    if order is not None and type(layer) is nn.Conv2d and not altered(layer):
        padding = _zeros_around(layer)
        if padding is not None:
            stride, dilation = layer.stride, layer.dilation
            return _operate(layer, lambda x, weight, bias: conv2d(x, weight, bias, stride, padding, dilation), x)
    if type(layer) is nn.MaxPool2d and not altered(layer) and (window := _window(layer)) is not None:
        return max_pool2d(x, window)
    y: Tensor = layer(x)
    return y


def _operate(layer: nn.Linear | nn.Conv2d, operation: Operation, x: Tensor) -> Tensor:
    substitute = vars(layer).get("forward")
    return operation(x, layer.weight, layer.bias) if substitute is None else substitute.around(operation, x)


def apply_together(layer: nn.Module, neuron: nn.Module, x: Tensor, order: Order) -> Tensor | None:
    """`neuron(layer(x))` for x [T, B, ...] in one pass; None where that is not possible, or not faster."""
    if type(neuron) not in (LIF, IF, FoldedLIF) or type(layer) not in (nn.Linear, nn.Conv2d) or torch.is_grad_enabled():
        return None
    if altered(layer) or "forward" in vars(layer) or altered(neuron) or not cast(RunsTogether, neuron).fuses():
        return None
    together = _linear if type(layer) is nn.Linear else _conv2d
    return together(cast(Any, layer), cast(RunsTogether, neuron), x, order)


def is_idle(layer: nn.Module) -> bool:
    """Whether `layer` gives what it takes: nn.Identity, and dropout in eval mode."""
    nothing = type(layer) is nn.Identity or (type(layer) in _DROPOUTS and not layer.training)
    return nothing and not altered(layer)


def _linear(layer: nn.Linear, neuron: RunsTogether, x: Tensor, order: Order) -> Tensor | None:
    operands = (x, layer.weight, layer.bias)
    if not linear_lif.pays(*operands):
        return None
    drive = x.new_empty(()).expand(*x.shape[:2], layer.out_features)
    return neuron.behind(drive, partial(linear_lif.linear_lif, *operands), partial(linear_reference, *operands))


def _conv2d(layer: nn.Conv2d, neuron: RunsTogether, x: Tensor, order: Order) -> Tensor | None:
    padding = _zeros_around(layer)
    if padding is None:
        return None
    steps = (*layer.stride, *padding, *layer.dilation)
    operands = (x, layer.weight, layer.bias, steps)
    if not conv_lif.pays(*operands):
        return None
    flat = order.before(layer, x.flatten(0, 1))
    sizes = (out_size(x.shape[axis + 3], layer.weight.shape[axis + 2], *steps[axis::2]) for axis in (0, 1))
    # Channels last, as the convolution alone would give it: the state lies as it does.
    drive = x.new_empty(1).expand(len(x), x.shape[1], *sizes, layer.out_channels).permute(0, 1, 4, 2, 3)

    def compute() -> Tensor:
        found = conv2d_reference(flat, layer.weight, layer.bias, layer.stride, padding, layer.dilation)
        return found.unflatten(0, x.shape[:2])

    return neuron.behind(drive, partial(conv_lif.conv2d_lif, *operands), compute)


class Order:
    """Follows images through a chain: a convolution may put them channels last, and nobody outside is to see it."""

    def __init__(self) -> None:
        self._changed = False

    def before(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What `layer` is given for x: [T·B, ...], or [T, B, ...] if it takes time."""
        if functorch_active():
            # Nothing is put in another order there, and vmap does not tell how its tensors lie.
            return x
        # A hook, too, may depend on the order.
        if type(layer) not in _ANY_ORDER or altered(layer):
            return self.after(x)
        # Images that come channels last from the user stay so.
        self._changed |= type(layer) is nn.Conv2d and not x.is_contiguous(memory_format=torch.channels_last)
        return x

    def after(self, x: Tensor) -> Tensor:
        """What the chain gives."""
        changed, self._changed = self._changed, False
        return x.contiguous() if changed else x


def _window(layer: nn.MaxPool2d) -> tuple[int, int] | None:
    """The window [h, w] of a pooling whose windows lie side by side and say nothing of places; None for others."""
    sizes, steps, around, apart = (
        (value, value) if isinstance(value, int) else tuple(value)
        for value in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    plain = sizes == steps and around == (0, 0) and apart == (1, 1) and not layer.ceil_mode and not layer.return_indices
    return sizes if plain and len(sizes) == 2 else None


def _zeros_around(layer: nn.Conv2d) -> Sequence[int] | None:
    """Its padding as two numbers; None where it is another thing, or where the layer has groups."""
    if layer.padding_mode != "zeros" or layer.groups != 1:
        return None
    if isinstance(layer.padding, str):
        return (0, 0) if layer.padding == "valid" else None
    return layer.padding


def altered(layer: nn.Module) -> bool:
    """Whether a call gives more than the forward of its class: hooks, a forward of its own, a compiled call."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or modules._global_forward_hooks
        or modules._global_forward_pre_hooks
        or modules._global_backward_hooks
        or modules._global_backward_pre_hooks
        or ("forward" in vars(layer) and not isinstance(vars(layer)["forward"], Substitute))
        or layer._compiled_call_impl is not None
    )
