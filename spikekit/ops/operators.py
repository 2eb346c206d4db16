"""Functions made into operators of torch, `torch.ops.spikekit.*`: opaque to torch.compile and export, cheap to call.

`torch.library.custom_op` does the same. Its gradient costs 60 µs a layer and training step more, which is what a small
layer takes in all: it fills in default arguments and looks for outputs that alias inputs at every call. Operators here
have no defaults, and the tests look for aliases, once, with `torch.library.opcheck`.

What `operator` returns calls the function directly where nobody would see the operator: torch's dispatcher takes every
argument to C++ and back, twice. Compilers, tracers, profilers and modes are given the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar, cast

import torch

R = TypeVar("R")

_LIBRARY = torch.library.Library("spikekit", "DEF")
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class _Operator:
    """One operator: what `operator` makes of a function, and what the code calls."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        _LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()))
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        self.overload: Any = getattr(torch.ops.spikekit, name).default
        self._name, self._function, self._direct = name, function, function
        update_wrapper(self, function)

    def differentiate(self, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
        """Give it its gradient."""
        self._direct = _with_gradient(self._name, self._function, backward, setup_context)
        _LIBRARY.impl(self._name, _with_gradient(self._name, self.overload, backward, setup_context), "Autograd")

    def __call__(self, *inputs: Any) -> Any:
        # torch.compile reads this line, and the rest never.
        if torch.compiler.is_compiling() or _observed(inputs):
            return self.overload(*inputs)
        return self._direct(*inputs)


_operators: dict[str, _Operator] = {}


def operator(name: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorate a typed function of tensors and numbers that changes none of its inputs and returns new tensors.

    Give it its `fake` and, with `differentiable` or `not_differentiable`, its gradient. Call it with positional
    arguments.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        _operators[name] = _Operator(name, function)
        return cast("Callable[..., R]", _operators[name])

    return decorate


def fake(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate what gives the operator's outputs their shapes, strides and dtypes, and computes nothing."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        registered = torch.library.register_fake(f"spikekit::{name}", function, lib=_LIBRARY)
        return cast("Callable[..., Any]", registered)

    return decorate


def differentiable(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Give the operator its gradient: both functions are those of a `torch.autograd.Function`."""
    _operators[name].differentiate(backward, setup_context)


def not_differentiable(name: str) -> None:
    """Refuse to differentiate the operator, when its gradient is asked for: what a gradient is computed by."""

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"spikekit::{name} has no derivative: a second derivative through a neuron is not defined")

    differentiable(name, refuse, lambda ctx, inputs, output: None)


def _with_gradient(
    name: str, run: Callable[..., Any], backward: Callable[..., Any], setup_context: Callable[..., None]
) -> Callable[..., Any]:
    def forward(ctx: Any, *inputs: Any) -> Any:
        # Below the key that notes views, too: an output that was made as a view could not be changed in place.
        with torch._C._AutoDispatchBelowADInplaceOrView():
            output = run(*inputs)
        setup_context(ctx, inputs, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(f"Backward_{name}", (torch.autograd.Function,), members)

    def call(*inputs: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in inputs):
            return function.apply(*inputs)
        with torch._C._AutoDispatchBelowADInplaceOrView():
            return run(*inputs)

    return call


def _observed(inputs: tuple[Any, ...]) -> bool:
    """Whether a mode, a tracer, a profiler or a kind of tensor of its own looks at the operators of this call."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or torch._C._autograd._profiler_enabled()
        or not all(type(a) in _PLAIN and not a.is_meta for a in inputs if isinstance(a, torch.Tensor))
    )
