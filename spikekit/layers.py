"""How a layer without state is called: by the fast way to its numbers where it is torch's own and nothing listens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules import module as modules

from spikekit.ops.linear import linear


def apply_stateless(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)` for x [T·B, ...], folded: an nn.Linear sums only what is not zero where that is faster."""
    if type(layer) is nn.Linear and not _altered(layer):
        return linear(x, layer.weight, layer.bias)
    if type(layer) is nn.Sequential and not _altered(layer):
        for part in layer:
            x = apply_stateless(part, x)
        return x
    y: Tensor = layer(x)
    return y


def _altered(layer: nn.Module) -> bool:
    """Whether a call does more than the forward of its class: hooks, a forward of its own, a compiled call."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or modules._global_forward_hooks
        or modules._global_forward_pre_hooks
        or modules._global_backward_hooks
        or modules._global_backward_pre_hooks
        or "forward" in vars(layer)
        or layer._compiled_call_impl is not None
    )
