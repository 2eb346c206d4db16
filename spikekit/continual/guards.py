"""Refusals of what breaks the promise of a projection, with the figures that say how badly.

The figures are changes of a network's output for old inputs that lie in the span, relative to it, after 50 steps on
other ones: the multilayer perceptron of tests/continual/nets.py, SGD(lr=0.1), with momentum 0.9 or not, with weight
decay, in train mode, and Adam(lr=0.001). tests/continual/test_exact.py measures them anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, SGD, Optimizer

from spikekit.errors import InputError
from spikekit.learning import Rule

MOST = 0.75
"""The part of a layer's width that lateral units may be without a warning."""
DRIFT = 0.1
"""max|HHᵀ - I| without a warning."""


def check_step(net: nn.Module, optimizer: object, rule: object, who: str) -> None:
    """Refuse what cannot take a step, and an optimiser that would take it elsewhere."""
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LBFGS):
        found = optimizer.__name__ if isinstance(optimizer, type) else type(optimizer).__name__
        raise InputError(
            f"{who}: give an optimiser such as torch.optim.SGD(method.parameters(), lr=0.1), got {found}"
            + (", which runs the network by itself" if isinstance(optimizer, LBFGS) else "")
        )
    if not (rule is None or isinstance(rule, Rule)):
        raise InputError(f"{who}: give a rule such as sk.learning.BPTT() or OTTT(), got {rule!r}")
    learning = {id(p) for p in net.parameters() if p.requires_grad}
    if not any(id(p) in learning for group in optimizer.param_groups for p in group["params"]):
        raise InputError(
            f"{who}: the optimiser holds no parameter of this network that learns; build it from method.parameters()"
        )


def check_weights(net: nn.Module, layers: Mapping[str, nn.Module], who: str) -> None:
    """Refuse layers whose weight is not theirs alone: what is projected for one moves the other."""
    owners: dict[int, list[str]] = {}
    for name, module in net.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(name)
    for name, layer in layers.items():
        if "weight" not in layer._parameters:
            raise InputError(
                f"{who}: the weight of layer {name!r} is computed from others (parametrised, pruned), whose steps "
                "cannot be projected; make it plain, by parametrize.remove_parametrizations or prune.remove"
            )
        if len(found := owners[id(layer.weight)]) > 1:
            raise InputError(
                f"{who}: {found} share one weight, and each is given inputs of its own; use one layer twice instead, "
                "whose units see both"
            )


def check_optimizer(optimizer: Optimizer, projected: Iterable[nn.Parameter], who: str) -> None:
    """Refuse optimisers whose step does not lie where the gradient does, and weight decay."""
    way_out = "; use torch.optim.SGD(method.parameters(), lr=...), or project='update', which projects the step itself"
    if not isinstance(optimizer, SGD):
        raise InputError(
            f"{who}: {type(optimizer).__name__} scales every entry of the gradient by itself, so that its step leaves "
            "the subspace that the gradient was projected to: Adam moved old outputs by 64 %, SGD by 1e-15" + way_out
        )
    ids = {id(p) for p in projected}
    for group in optimizer.param_groups:
        if group["weight_decay"] != 0 and any(id(p) in ids for p in group["params"]):
            raise InputError(
                f"{who}: weight_decay = {group['weight_decay']:g} shrinks what the weights do with old inputs, with no "
                "gradient that could be projected (at 0.001 old outputs moved by 30 %)" + way_out
            )


def check_room(name: str, units: int, width: int, who: str) -> None:
    """Refuse as many rows as a layer has inputs, and warn before."""
    if units >= width:
        raise InputError(
            f"{who}: layer {name!r} would have {units} lateral units, and it has {width} inputs a neuron: nothing is "
            "left to learn the next task in. Give it fewer, or a wider layer"
        )
    if units > MOST * width:
        warnings.warn(
            f"{who}: layer {name!r} has {units} lateral units for {width} inputs a neuron, "
            f"{100 * units / width:.0f} %: little is left to learn the next task in. Above {100 * MOST:.0f} % see "
            "whether tasks are still learned when they come; else give it fewer, or a wider layer",
            stacklevel=5,
        )


def check_drift(name: str, drift: float, who: str) -> None:
    """Warn when rows are far from orthonormal."""
    if not drift <= DRIFT:
        warnings.warn(
            f"{who}: max|HHᵀ - I| of layer {name!r} is {drift:.2f}, above {DRIFT:g}: the projection takes away too "
            "little or too much. orthonormalise=True mends it when a task ends; a smaller lr makes less of it",
            stacklevel=5,
        )


def momentum_buffers(optimizer: Optimizer, parameter: nn.Parameter) -> list[torch.Tensor]:
    """The sums of past gradients that the next step of SGD will add to the weight."""
    state: dict[str, Any] = optimizer.state.get(parameter, {})
    buffer = state.get("momentum_buffer")
    return [] if buffer is None else [buffer]
