"""Functions made into operators of torch, `torch.ops.spikekit.*`: opaque to torch.compile and export, cheap to call.

`torch.library.custom_op` does the same. Its gradient costs 60 µs a layer and training step more, which is what a small
layer takes in all: it fills in default arguments and looks for outputs that alias inputs at every call. Operators here
have no defaults, and the tests look for aliases, once, with `torch.library.opcheck`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARY = torch.library.Library("spikekit", "DEF")


def operator(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a typed function of tensors and numbers that changes none of its inputs and returns new tensors.

    Give it its `fake` and, with `differentiable` or `not_differentiable`, its gradient.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()))
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        return cast("Callable[P, R]", _overload(name))

    return decorate


def _overload(name: str) -> Any:
    return getattr(torch.ops.spikekit, name).default


def fake(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate what gives the operator's outputs their shapes, strides and dtypes, and computes nothing."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        registered = torch.library.register_fake(f"spikekit::{name}", function, lib=_LIBRARY)
        return cast("Callable[..., Any]", registered)

    return decorate


def differentiable(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Give the operator its gradient: both functions are those of a `torch.autograd.Function`."""
    overload = _overload(name)

    def forward(ctx: Any, *inputs: Any) -> Any:
        # Below the key that notes views, too: an output that was made as a view could not be changed in place.
        with torch._C._AutoDispatchBelowADInplaceOrView():
            output = overload(*inputs)
        setup_context(ctx, inputs, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(f"Backward_{name}", (torch.autograd.Function,), members)

    def kernel(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in inputs):
            return function.apply(*inputs)
        with torch._C._AutoDispatchBelowADInplaceOrView():
            return overload(*inputs)

    _LIBRARY.impl(name, kernel, "Autograd")


def not_differentiable(name: str) -> None:
    """Refuse to differentiate the operator, when its gradient is asked for: what a gradient is computed by."""

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"spikekit::{name} has no derivative: a second derivative through a neuron is not defined")

    differentiable(name, refuse, lambda ctx, inputs, output: None)
