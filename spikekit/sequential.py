"""Chains of spiking and stateless layers on [T, B, ...]: time is folded into the batch where a layer needs no time."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikekit.errors import InputError, SpikekitError
from spikekit.layers import Order, apply_stateless, apply_together, is_idle

# These read axis 0 as time or as the batch themselves: folding T into B would mix the two without an error.
_SEQUENCE_LAYERS = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)


def is_temporal(module: nn.Module) -> bool:
    """Whether `module` takes [T, B, ...] itself: it says so by `temporal`, or holds a module that does."""
    return any(getattr(child, "temporal", False) for child in module.modules())


class FoldTime(nn.Module):
    """A stateless module applied to every time step at once; made by `fold_time`."""

    temporal: ClassVar[bool] = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, ...] -> [T, B, ...]."""
        _check_axes(x, "fold_time")
        y = apply_stateless(self.module, x.flatten(0, 1))
        _check_folded(y, self.module, "fold_time", x.shape[:2])
        return y.unflatten(0, x.shape[:2])


def fold_time(module: nn.Module) -> FoldTime:
    """Let a stateless module (nn.Conv2d, nn.BatchNorm2d, ...) work on [T, B, ...], in a forward of your own.

    `sk.fold_time(self.conv)(x)` for x [T, B, C, H, W] sees a batch of T·B images. Batch statistics are taken over time
    and batch together; dropout draws a new mask every step. Raises InputError for a module that holds neurons, that
    takes the first axis for a sequence, or that returns anything but T·B samples.
    """
    if is_temporal(module):
        raise InputError(
            f"fold_time: {type(module).__name__} holds neurons, which need the time axis; call it directly"
        )
    if any(getattr(part, "batch_first", True) is False for part in module.modules()):
        raise InputError(
            f"fold_time: {type(module).__name__} takes axis 0 for its sequence, where T·B samples stand; "
            "build it with batch_first=True"
        )
    return FoldTime(module)


class Sequential(nn.Sequential):
    """`nn.Sequential` on [T, B, ...]: neurons see time, everything else sees time folded into the batch.

    Takes layers, or one OrderedDict of layers, like its parent. Errors name the layer that refused its input.
    """

    temporal: ClassVar[bool] = True

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a layer; the constructor, `append` and `extend` come through here."""
        _check_layer(name, module)
        super().add_module(name, module)

    def insert(self, index: int, module: nn.Module) -> Sequential:
        """Insert a layer before the layer `index`."""
        _check_layer(str(index), module)
        super().insert(index, module)
        return self

    def __setitem__(self, index: int, module: nn.Module) -> None:
        _check_layer(str(index), module)
        super().__setitem__(index, module)

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, ...] -> [T, B, ...]."""
        _check_axes(x, "Sequential")
        steps, folded, order = x.shape[:2], False, Order()
        layers = iter(self._modules.items())
        following = next(layers, None)
        while following is not None:
            (name, layer), following = following, next(layers, None)
            # What a folded normalisation leaves behind, too.
            while following is not None and following[1] is not None and is_idle(following[1]):
                following = next(layers, None)
            temporal = is_temporal(layer)
            if temporal and folded:
                x, folded = x.unflatten(0, steps), False
            elif not temporal and not folded:
                steps = x.shape[:2]
                x, folded = x.flatten(0, 1), True
            if folded and following is not None:
                spikes = _together(layer, *following, x.unflatten(0, steps), order)
                if spikes is not None:
                    x, folded, following = spikes, False, next(layers, None)
                    continue
            try:
                x = apply_stateless(layer, x, order) if folded else layer(order.before(layer, x))
            except torch.OutOfMemoryError:
                raise
            except SpikekitError as error:
                raise type(error)(f"layer {name}: {error}") from error
            except (RuntimeError, ValueError) as error:
                shape = [f"T={steps[0]}", f"B={steps[1]}", *x.shape[1:]] if folded else list(x.shape)
                raise InputError(
                    f"layer {name}: {layer} refused [{', '.join(map(str, shape))}] of {x.dtype}: "
                    f"{_explain(layer, x) or error}"
                ) from error
            if folded:
                _check_folded(x, layer, f"layer {name}", steps)
        x = order.after(x)
        return x.unflatten(0, steps) if folded else x


def _together(layer: nn.Module, name: str, neuron: nn.Module | None, x: Tensor, order: Order) -> Tensor | None:
    """`neuron(layer(x))` for x [T, B, ...] in one pass; None if there is none. name: that of the neuron, for errors."""
    if neuron is None:
        return None
    try:
        return apply_together(layer, neuron, x, order)
    except SpikekitError as error:
        raise type(error)(f"layer {name}: {error}") from error


def _check_layer(name: str, layer: nn.Module | None) -> None:
    if layer is None:
        raise InputError(f"Sequential: layer {name} is None; leave it out, or use nn.Identity()")
    chain = layer.modules() if type(layer) is nn.Sequential else (layer,)
    for part in chain:
        if isinstance(part, _SEQUENCE_LAYERS):
            raise InputError(
                f"Sequential: layer {name} ({type(part).__name__}) has a time axis of its own; call it in the forward "
                "of your own module, or wrap it in sk.fold_time if it works on another axis at every time step"
            )
        if getattr(part, "dim", None) == 0 and not is_temporal(part):
            raise InputError(
                f"Sequential: layer {name} ({part}) works on axis 0, where time and batch are folded together; "
                "count its dim from the end, such as dim=-1"
            )
    if isinstance(layer, nn.Sequential) and not isinstance(layer, Sequential) and is_temporal(layer):
        raise InputError(f"Sequential: layer {name} is an nn.Sequential that holds neurons; make it an sk.Sequential")


def _check_folded(y: Any, layer: nn.Module, where: str, steps: torch.Size) -> None:
    """Refuse what a stateless layer returned for T·B samples unless it is as many samples."""
    if not isinstance(y, Tensor) or y.shape[:1] != (steps[0] * steps[1],):
        shape = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise InputError(
            f"{where}: {layer} was given T·B = {steps[0]}·{steps[1]} samples on its first axis and "
            f"returned {shape}. The input may lack an axis; a layer that needs time says so by temporal = True."
        )


def _check_axes(x: Tensor, who: str) -> None:
    if not isinstance(x, Tensor):
        raise InputError(f"{who}: the input must be a tensor, got {type(x).__name__}; use torch.as_tensor(x)")
    if x.ndim < 3:
        raise InputError(f"{who}: the input must have the axes [T, B, ...], got shape {tuple(x.shape)}")
    for axis, what in ((0, "time steps (axis 0, T)"), (1, "samples (axis 1, B)")):
        if x.shape[axis] == 0:
            raise InputError(f"{who}: the input has no {what}: shape {tuple(x.shape)}")


def _explain(layer: nn.Module, x: Tensor) -> str | None:
    """The usual two mistakes, in the words of [T, B, ...]; `x` has time folded."""
    if not x.is_floating_point():
        return f"it needs floating point; use x.float() or x.to(torch.{torch.get_default_dtype()})".replace(
            "torch.torch.", "torch."
        )
    if isinstance(layer, nn.Linear) and x.shape[-1] != layer.in_features:
        return f"it needs {layer.in_features} features on the last axis, got {x.shape[-1]}"
    channels = getattr(layer, "in_channels", getattr(layer, "num_features", None))
    if channels is not None and x.ndim > 1 and x.shape[1] != channels:
        return f"it needs {channels} channels on axis 2 (C), got {x.shape[1]}"
    return None
