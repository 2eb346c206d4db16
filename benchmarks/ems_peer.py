"""EMS-YOLO written with SpikingJelly's layers, of the weights of one of ours: what `benchmarks.ems_speed` times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contenders import _deprecated_jit
from spikekit.errors import InputError
from spikekit.models import EMSYOLO, EMSBlock
from spikekit.neurons import LIF

Change = Callable[[nn.Module], nn.Module]
"""Our layer, or chain of layers -> the peer's."""


class PeerBlock(nn.Module):
    """`EMSBlock`, of the peer's layers."""

    def __init__(self, block: EMSBlock, change: Change) -> None:
        super().__init__()
        self.branch = change(block.branch)
        self.side, self.pool, self.project = (
            None if part is None else change(part) for part in (block.side, block.pool, block.project)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.side is not None:
            x = torch.cat([self.side(x), x], 2)
        if self.pool is not None:
            x = self.pool(x)
        summed: Tensor = y + (x if self.project is None else self.project(x))
        return summed


class PeerYOLO(nn.Module):
    """`EMSYOLO`, of the peer's layers. Its state is reset at every call, as the peer's users do between batches."""

    def __init__(
        self, net: EMSYOLO, change: Callable[[nn.Module], nn.Module], reset: Callable[[nn.Module], Any]
    ) -> None:
        super().__init__()
        self._reset = reset
        self.parts = nn.ModuleDict({name: change(part) for name, part in net.named_children()})

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C, H, W] -> [T, B, N, 5 + classes]."""
        self._reset(self)
        at = self.parts
        p4 = at["middle"](at["stem"](x))
        p5 = at["neck"](at["deep"](p4))
        medium = at["medium"](torch.cat([at["up"](at["lateral"](p5)), p4], 2))
        outputs = zip(at["detect"].children(), (medium, at["large"](p5)), strict=True)
        raw = [layer(y).unflatten(2, (3, -1)).movedim(3, -1).flatten(2, 4) for layer, y in outputs]
        return torch.cat(raw, 2)


def spikingjelly_net(net: EMSYOLO) -> PeerYOLO:
    """The same network by SpikingJelly in multi-step mode, with copies of all weights. Raises ImportError."""
    with _deprecated_jit():
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def change(module: nn.Module) -> nn.Module:
        if isinstance(module, EMSBlock):
            return PeerBlock(module, change)
        if isinstance(module, LIF):
            return neuron.LIFNode(  # type: ignore[no-any-return]
                # v - v / tau = v / 4.
                tau=4 / 3,
                decay_input=False,
                v_threshold=0.5,
                v_reset=0.0,
                surrogate_function=surrogate.Rect(1.0),
                detach_reset=True,
                step_mode="m",
            )
        if isinstance(module, nn.Conv2d):
            made = layer.Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                module.stride,
                module.padding,
                bias=module.bias is not None,
                step_mode="m",
            )
        elif isinstance(module, nn.BatchNorm2d):
            made = layer.BatchNorm2d(module.num_features, step_mode="m")
        elif isinstance(module, nn.MaxPool2d):
            return layer.MaxPool2d(module.kernel_size, module.stride, step_mode="m")  # type: ignore[no-any-return]
        elif isinstance(module, nn.Upsample):
            return layer.Upsample(scale_factor=module.scale_factor, mode=module.mode, step_mode="m")  # type: ignore[no-any-return]
        elif children := list(module.children()):
            return nn.Sequential(*map(change, children))
        else:
            raise InputError(f"spikingjelly_net: no layer of the peer's for {type(module).__name__}")
        made.load_state_dict(module.state_dict())
        return made.to(next(module.parameters()).dtype)  # type: ignore[no-any-return]

    return PeerYOLO(net, change, functional.reset_net)
