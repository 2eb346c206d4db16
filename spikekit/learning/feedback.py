"""Backward passes without weight transport: errors go down through matrices other than the weights.

Feedback alignment (Lillicrap, Cownden, Tweed, Akerman 2016, Nature Communications 7:13276): B fixed and random.
Sign symmetry (Liao, Leibo, Poggio 2016, AAAI, arXiv 1510.05067): B = sign(W), scaled. The gradient to the layer below
is Bᵀδ in place of Wᵀδ; the forward pass and the layer's own gradient for a given δ stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.learning.gradients import Weighted
from spikekit.learning.synapse import release, synapse_of, weight_layers

_BUFFER = "feedback"


@dataclass(frozen=True)
class _Fixed:
    """The buffer of the layer, which is moved and saved with it."""

    layer: Weighted

    def __call__(self, weight: Tensor) -> Tensor:
        return self.layer.get_buffer(_BUFFER).to(weight.dtype)


@dataclass(frozen=True)
class _Signs:
    """The signs of the weights, as large as `scale` says."""

    scale: float | None

    def __call__(self, weight: Tensor) -> Tensor:
        scale = 1 / math.sqrt(weight[0].numel()) if self.scale is None else self.scale
        return weight.sign() * scale


def feedback_alignment(net: nn.Module, names: Iterable[str] | None = None) -> nn.Module:
    """Send errors of `net`'s weight layers down through fixed random matrices, drawn as the layers' own weights are.

    names: the layers, as in `net.named_modules()`; None: all nn.Linear and nn.Conv1d/2d/3d. The matrix is the buffer
    `feedback` of the layer: it is saved in its state, and loading that state needs the same call first. Works with all
    rules of `spikekit.learning` and with plain backward(). Returns `net`, changed in place; `weight_transport` undoes
    it. Raises InputError for names that are no weight layers, and for layers with a forward of their own.
    """
    for name, layer in _chosen(net, names, "feedback_alignment").items():
        synapse = synapse_of(name, layer, "feedback_alignment")
        matrix = torch.empty_like(layer.weight, requires_grad=False)
        nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
        layer.register_buffer(_BUFFER, matrix.detach())
        synapse.feedback = _Fixed(layer)
    return net


def sign_symmetry(net: nn.Module, names: Iterable[str] | None = None, scale: float | None = None) -> nn.Module:
    """Send errors of `net`'s weight layers down through the signs of their weights, times `scale`.

    scale: > 0; None: 1/√(inputs of a neuron). All else as in `feedback_alignment`, but nothing is added to the state.
    """
    if scale is not None and not (isinstance(scale, (int, float)) and math.isfinite(scale) and scale > 0):
        raise InputError(f"sign_symmetry: scale must be a number greater than 0, got {scale!r}")
    for name, layer in _chosen(net, names, "sign_symmetry").items():
        layer._buffers.pop(_BUFFER, None)
        synapse_of(name, layer, "sign_symmetry").feedback = _Signs(scale)
    return net


def weight_transport(net: nn.Module, names: Iterable[str] | None = None) -> nn.Module:
    """Send errors down through the weights again; undoes `feedback_alignment` and `sign_symmetry`."""
    for name, layer in _chosen(net, names, "weight_transport").items():
        synapse_of(name, layer, "weight_transport").feedback = None
        layer._buffers.pop(_BUFFER, None)
        release(layer)
    return net


def _chosen(net: nn.Module, names: Iterable[str] | None, who: str) -> dict[str, Weighted]:
    if not isinstance(net, nn.Module):
        raise InputError(f"{who}: net must be an nn.Module, got {type(net).__name__}")
    layers = weight_layers(net)
    if names is None:
        if not layers:
            raise InputError(f"{who}: the network has no nn.Linear or convolution")
        return layers
    names = [names] if isinstance(names, str) else list(names)
    if unknown := sorted(set(names) - set(layers)):
        raise InputError(f"{who}: {unknown} are no weight layers; this network has {sorted(layers)}")
    return {name: layers[name] for name in names}
