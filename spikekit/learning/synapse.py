"""Where learning rules reach into a layer: its forward is called as ever, its backward is put together from parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge

from spikekit import state as sessions
from spikekit.errors import InputError
from spikekit.layers import Operation, Substitute
from spikekit.learning.gradients import (
    WEIGHTED,
    Weighted,
    bias_gradient,
    input_gradient,
    own_forward,
    rows_gradient,
    samples,
    weight_gradient,
)
from spikekit.rematerialise import CheckpointTime

Listener = Callable[[str, nn.Module, Tensor], Tensor | None]
"""Path of a weight layer, the layer, its presynaptic signal [N, ...] -> rows in its place: see `spikekit.learning`."""

# Weight -> the matrix that carries errors down.
Feedback = Callable[[Tensor], Tensor]


class Synapse(Substitute):
    """Stands as `forward` in a weight layer: for good where it has other feedback, else for one pass."""

    def __init__(self, layer: Weighted) -> None:
        self.layer = layer
        self.feedback: Feedback | None = None
        self.current: Pass | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return self.around(self._own, x)

    def _own(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return own_forward(self.layer, x, weight, bias)

    def around(self, operation: Operation, x: Tensor) -> Tensor:
        """The output for x, as the rule of the pass has it."""
        if self.current is None:
            return self.transmit(operation, x)
        return self.current.transmit(self, operation, x)

    def transmit(self, operation: Operation, x: Tensor, credit: Credit | None = None) -> Tensor:
        """The output for x; its gradients are those of the feedback, and of `credit` in the place of x."""
        weight, bias = self.layer.weight, self.layer.bias
        if (credit is None and self.feedback is None) or not torch.is_grad_enabled():
            return operation(x, weight, bias)
        y: Tensor = Transmit.apply(x, weight, bias, self, operation, credit)
        return y


class Credit:
    """What takes the place of the input in the gradients of weight and bias."""

    def __init__(
        self, signal: Tensor, of_bias: float, source: tuple[str, int] | None, rows: Tensor | None = None
    ) -> None:
        # of_bias: what the bias is multiplied by, as the weight is by the signal. source: the call that it is of.
        # rows: what a listener put in the place of the signal, [N, features] or, of a convolution, its patches.
        self.signal, self.of_bias, self.source, self.rows = signal, of_bias, source, rows


class Transmit(torch.autograd.Function):
    """An operation whose backward pass is put together from parts: what is not replaced is that of its own graph."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        synapse: Synapse,
        operation: Operation,
        credit: Credit | None,
    ) -> Tensor:
        leaves = [None if a is None else a.detach().requires_grad_(a.requires_grad) for a in (x, weight, bias)]
        if credit is not None and x.requires_grad and isinstance(synapse.layer, nn.Linear):
            # The gradient of the weight is put together here; its own would be computed for nothing.
            leaves[1] = weight.detach()
        # With gradients on, as without the rule: kernels are chosen by that, and kernels differ in their rounding.
        with torch.enable_grad():
            y = operation(*cast(tuple[Tensor, Tensor, Tensor | None], tuple(leaves)))
        ctx.leaves, ctx.synapse, ctx.credit = leaves, synapse, credit
        # The way back into its graph; y itself need not stay.
        ctx.edge = get_gradient_edge(y) if y.requires_grad else None
        ctx.matrix = None if synapse.feedback is None else synapse.feedback(weight.detach())
        ctx.source = None if credit is None else credit.source
        return y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        layer, credit, wanted = ctx.synapse.layer, ctx.credit, list(ctx.needs_input_grad[:3])
        found: list[Tensor | None] = [None, None, None]
        if ctx.matrix is not None and wanted[0]:
            x = ctx.leaves[0]
            found[0] = input_gradient(layer, ctx.matrix, x, error.to(ctx.matrix.dtype)).to(x.dtype)
            wanted[0] = False
        if credit is not None and wanted[1]:
            signal, rows = credit.signal, credit.rows
            if rows is not None:
                found[1] = rows_gradient(layer, rows, error.to(rows.dtype)).to(ctx.leaves[1].dtype)
            else:
                found[1] = weight_gradient(layer, signal, error.to(signal.dtype)).to(ctx.leaves[1].dtype)
            wanted[1] = False
        if credit is not None and wanted[2]:
            found[2] = (bias_gradient(layer, error) * credit.of_bias).to(ctx.leaves[2].dtype)
            wanted[2] = False
        asked = [index for index, still in enumerate(wanted) if still]
        if asked:
            leaves = [ctx.leaves[index] for index in asked]
            for index, gradient in zip(
                asked, torch.autograd.grad([ctx.edge], leaves, error, retain_graph=True), strict=True
            ):
                found[index] = gradient
        return (*found, None, None, None)


class Pass:
    """One pass of a network under a rule; this one is backpropagation's, which only listens.

    names: id of a layer -> its path.
    """

    def __init__(self, listen: Listener | None) -> None:
        self.listen = listen
        self.names: dict[int, str] = {}
        # Whether parts of the network are computed again in the backward pass.
        self.again = False

    def transmit(self, synapse: Synapse, operation: Operation, x: Tensor) -> Tensor:
        """The output of a layer for x, with the gradients of the rule."""
        rows = self.report(synapse, x)
        return synapse.transmit(operation, x, None if rows is None else Credit(x.detach(), 1.0, None, rows))

    def report(self, synapse: Synapse, signal: Tensor) -> Tensor | None:
        """Tell the listener, if it is to know: not of layers that do not learn, nor of what is computed again.

        Returns the rows that take the place of the signal, or None.
        """
        session = sessions.active()
        if self.listen is None or (session is not None and session.again):
            return None
        if torch.is_grad_enabled() and not synapse.layer.weight.requires_grad:
            return None
        with torch.no_grad():
            name = self.names[id(synapse.layer)]
            rows = self.listen(name, synapse.layer, samples(synapse.layer, signal.detach()))
        if rows is not None and self.again:
            raise InputError(
                f"a listener put rows in the place of the signal of layer {name!r}, which checkpoint_time computes "
                "again as it is; change the gradient instead, or give the network inside, .module"
            )
        return rows


def weight_layers(net: nn.Module) -> dict[str, Weighted]:
    """Path -> layer of all weight layers."""
    return {name: layer for name, layer in net.named_modules() if isinstance(layer, WEIGHTED)}


def synapse_of(name: str, layer: Weighted, who: str) -> Synapse:
    """The synapse that stands in `layer`, put there if need be."""
    found = vars(layer).get("forward")
    if isinstance(found, Synapse):
        return found
    own = next(kind.forward for kind in WEIGHTED if isinstance(layer, kind))
    if found is not None or type(layer).forward is not own:
        raise InputError(
            f"{who}: layer {name!r} ({type(layer).__name__}) has a forward of its own, whose gradients are not known; "
            "change its weight with torch.nn.utils.parametrize, and leave the forward as it is"
        )
    layer.forward = Synapse(layer)  # type: ignore[method-assign, assignment]
    return cast(Synapse, layer.forward)


def release(layer: nn.Module) -> None:
    """Give `layer` its own forward back, unless its synapse is still needed."""
    synapse = vars(layer).get("forward")
    if isinstance(synapse, Synapse) and synapse.feedback is None and synapse.current is None:
        del layer.forward


@contextmanager
def passing(net: nn.Module, current: Pass, who: str) -> Iterator[None]:
    """Have all weight layers of `net` transmit by `current`."""
    for name, module in net.named_modules():
        if module._compiled_call_impl is not None or hasattr(module, "_orig_mod"):
            # Every layer would be compiled anew in every pass, around what stands in it.
            raise InputError(f"{who}: {name or 'the network'!r} is compiled; give the network that was compiled")
    layers = weight_layers(net)
    current.again = any(isinstance(module, CheckpointTime) for module in net.modules())
    entered: list[Synapse] = []
    try:
        for name, layer in layers.items():
            synapse = synapse_of(name, layer, who)
            if synapse.current is not None:
                raise InputError(f"{who}: layer {name!r} is in the pass of another rule already; end that first")
            synapse.current = current
            entered.append(synapse)
            current.names[id(layer)] = name
        yield
    finally:
        for synapse in entered:
            synapse.current = None
        for layer in layers.values():
            release(layer)
