"""The blocks of EMS-ResNet: a residual branch of spikes, and a shortcut whose convolution, if any, sees spikes too.

Su et al., "Deep directly-trained spiking neural networks for object detection", ICCV 2023, arXiv 2307.11411, after the
authors' public code. All blocks take and return [T, B, C, H, W] of real numbers: sums of drives, with no neuron behind
the sum. A block fires inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spikekit.errors import InputError
from spikekit.rematerialise import CheckpointTime, checkpoint_time
from spikekit.sequential import Sequential

Activation = Callable[[int], nn.Module]
"""Makes what stands in front of a convolution of so many channels: a neuron, or nn.ReLU for the ANN of equal shape."""

Net = TypeVar("Net", bound=nn.Module)

SHORTCUTS: Final = ("ems", "ms")

# γ of batch normalisation at the start: the threshold, and a fifth of it where a branch ends, so that a deep sum of
# branches starts small.
_GAMMA: Final = 0.5
_GAMMA_LAST: Final = 0.1
# A piece of time longer than any sequence.
_ALL_STEPS: Final = 1 << 62


def norm(channels: int, gamma: float = _GAMMA) -> nn.BatchNorm2d:
    """Batch normalisation over time, batch and place; γ starts at `gamma`, β at 0."""
    layer = nn.BatchNorm2d(channels)
    nn.init.constant_(layer.weight, gamma)
    return layer


class EMSBlock(nn.Module):
    """`branch(x) + shortcut(x)` on [T, B, C, H, W]; the four forms of the paper by their arguments.

    The branch is activation, conv (of stride `stride`), norm, activation, conv, norm. hidden: channels between its
    convolutions; `outputs` for the plain form, outputs / 2 for the bottleneck form. The shortcut is
    - the identity, where neither size nor channels change (MS-Block);
    - else, max-pooling, activation, 1×1 conv, norm (EMS-Block1);
    - with concat=True (EMS-Block2), max-pooling of z and x side by side, where z = activation, 1×1 conv from inputs to
      outputs - inputs channels, norm: x itself stays as it is. With inputs = outputs there is no z.

    shortcut="ms" leaves the activation of EMS-Block1 out, so that its convolution multiplies real numbers (as in
    MS-ResNet, and in the authors' `BasicBlock_ms`), and has no EMS-Block2. Raises InputError for concat with fewer
    outputs than inputs.
    """

    temporal: ClassVar[bool] = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Activation,
        *,
        stride: int = 1,
        kernel: int = 3,
        hidden: int | None = None,
        concat: bool = False,
        shortcut: str = "ems",
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise InputError(f"EMSBlock: shortcut must be one of {SHORTCUTS}, got {shortcut!r}")
        concat = concat and shortcut == "ems"
        if concat and outputs < inputs:
            raise InputError(
                f"EMSBlock: concat=True keeps all {inputs} inputs, so outputs must be {inputs} or more, got {outputs}"
            )
        inner = outputs if hidden is None else hidden
        self.branch = Sequential(
            activation(inputs),
            nn.Conv2d(inputs, inner, kernel, stride, padding=kernel // 2, bias=False),
            norm(inner),
            activation(inner),
            nn.Conv2d(inner, outputs, kernel, padding=kernel // 2, bias=False),
            norm(outputs, _GAMMA_LAST),
        )
        self.pool = Sequential(nn.MaxPool2d(stride)) if stride != 1 else None
        self.side: Sequential | None = None
        self.project: Sequential | None = None
        if concat and outputs > inputs:
            self.side = Sequential(*_pointwise(inputs, outputs - inputs, activation))
        elif not concat and (stride != 1 or inputs != outputs):
            layers = _pointwise(inputs, outputs, activation)
            self.project = Sequential(*(layers if shortcut == "ems" else layers[1:]))

    def shortcut(self, x: Tensor) -> Tensor:
        """The path beside the branch: x [T, B, C, H, W] -> [T, B, C', H', W']."""
        parts = [x] if self.side is None else [self.side(x), x]
        if self.pool is not None:
            # A channel at a time, whichever comes first: this way a quarter is put side by side.
            parts = [self.pool(part) for part in parts]
        x = side_by_side(parts)
        return x if self.project is None else self.project(x)

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C, H, W] -> [T, B, C', H', W']."""
        y: Tensor = self.branch(x) + self.shortcut(x)
        return y


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Channels of several [T, B, C, H, W] together, in the order in memory that the images have."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.flatten(0, 1) for part in parts], 1).unflatten(0, parts[0].shape[:2])


def _pointwise(inputs: int, outputs: int, activation: Activation) -> list[nn.Module]:
    return [activation(inputs), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs)]


def checkpoint_blocks(net: Net) -> Net:
    """Have every block of `net` forget its activations and compute them again when their gradient is due.

    In place; returns `net`. Kept are the inputs of the blocks, for EMS-Res10 a quarter of the memory; the price is one
    more forward pass of the blocks. A block sees all time steps at once, so batch statistics and gradients are those of
    `net` as it was, gradients to rounding; `sk.checkpoint_time(net)` cuts time into pieces, and each is normalised by
    itself. Blocks become `sk.checkpoint_time` of themselves: the names of their parameters get "module." in between.
    """
    for path, block in list(net.named_modules()):
        parent, _, name = path.rpartition(".")
        if path and isinstance(block, EMSBlock) and not isinstance(net.get_submodule(parent), CheckpointTime):
            net.get_submodule(parent).add_module(name, checkpoint_time(block, chunk=_ALL_STEPS))
    return net


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions inside the EMS blocks of `net`, by their path: those that should see spikes alone."""
    return {
        f"{path}.{name}".lstrip("."): layer
        for path, block in net.named_modules()
        if isinstance(block, EMSBlock)
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


def verify_binary(net: nn.Module) -> list[RemovableHandle]:
    """Have every convolution inside the blocks of `net` refuse, by InputError naming it, input that is not 0 or 1.

    A look at every input and a layer with a hook, which runs by torch's own kernels: for tests and for proof, not for
    speed. Returns the handles of the hooks: `handle.remove()` of each ends it; a second call looks a second time.
    """
    return [layer.register_forward_pre_hook(_checker(name)) for name, layer in convolutions(net).items()]


def _checker(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def check(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        real = (x != 0) & (x != 1)
        if bool(real.any()):
            raise InputError(
                f"{name}: strict: its input must be spikes, 0 or 1, but {int(real.sum())} of {x.numel()} values are "
                f"not, the first {x[real][0].item():.4g}. Use shortcut='ems' and spiking neurons, or strict=False"
            )

    return check
