"""Linear layers whose sums are exact, so that a token alone and a whole text at once give the same bits.

A matrix product adds in another order when its shape changes: in float32 the product of one row and of many differ in
their last bits (in 78 % of the entries of a layer of 192 x 384, torch on x86), and a spike may turn over. Sums of
numbers on a grid, of which all partial sums fit the mantissa, are exact, and exact sums have one value in any order, on
any device, event by event or dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikekit.errors import InputError
from spikekit.ops.linear import linear

# Bits of the mantissa that the sum of all weights of a row may fill; 23 are there, and rounding may add one.
_BITS = {torch.float32: 22, torch.float64: 51}
_EXPONENT = {torch.float32: (torch.int32, 0x7F800000), torch.float64: (torch.int64, 0x7FF0000000000000)}
# Of the readout: activations of unit variance and weights, whose products and sums up to 2^13 fit float64's 53 bits.
_ACTIVATION, _WEIGHT = 2.0**16, 2.0**24


class _OnGrid(torch.autograd.Function):
    """Each row of a matrix rounded to a step of its own, a power of two; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        whole, mask = _EXPONENT[weight.dtype]
        total = weight.abs().sum(1, keepdim=True).clamp_min(2.0**-100)
        # The exponent alone is the power of two below: no logarithm could be trusted to the last bit.
        below = (total.view(whole) & mask).view(weight.dtype)
        step = below * 2.0 ** (1 - _BITS[weight.dtype])
        return torch.round(weight / step) * step

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class SpikeLinear(nn.Module):
    """`nn.Linear` for spikes: x [..., K] of 0 and 1 to [..., N], the same bits whatever the shape of x.

    The weights used are those of `weight` rounded to 2^-21 of the sum of their row's magnitudes, or finer. Exact for
    float32 and float64; under autocast or TF32 it is a linear layer like any other. std: of the initial weights.
    """

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, std: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        nn.init.normal_(self.weight, std=n_in**-0.5 if std is None else std)
        self._held: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """X [..., K] in {0, 1} to x·Wᵀ + b [..., N]."""
        y = linear(x, self.used() if self._held is None else self._held)
        # Added by itself: inside the product it would be added first, off the grid.
        return y if self.bias is None else y + self.bias

    def used(self) -> Tensor:
        """The weights on their grid, [N, K]."""
        if self.weight.dtype not in _BITS:
            raise InputError(f"SpikeLinear: sums are exact in float32 and float64, not in {self.weight.dtype}")
        used: Tensor = _OnGrid.apply(self.weight)
        return used

    def extra_repr(self) -> str:
        """Sizes, as `nn.Linear` shows them."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"


class ExactReadout(nn.Module):
    """The last layer, from real numbers x [..., C] to logits [..., V], without bias.

    In training it is a linear layer. In eval mode x is rounded to 2^-16 and the weights to 2^-24, and the sums are
    exact in float64, rounded once: the same bits whatever the shape of x. That holds while the magnitudes of a row's
    products add up to less than 2^13, far above what activations of unit variance reach; nothing looks, and beyond it
    the last bits may depend on the shape.
    """

    rows: ClassVar[int] = 1 << 22
    """Entries of the product made at once: float64 copies of a whole text would double its memory."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width))
        nn.init.normal_(self.weight, std=width**-0.5)
        self._held: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """X [..., C] to logits [..., V]."""
        if self.training:
            return functional.linear(x, self.weight)
        weight = self.used() if self._held is None else self._held
        flat = x.flatten(0, -2)
        pieces = flat.split(max(1, self.rows // len(weight)))
        logits = [functional.linear(_rounded(piece, _ACTIVATION), weight).to(x.dtype) for piece in pieces]
        return torch.cat(logits).unflatten(0, x.shape[:-1])

    def used(self) -> Tensor:
        """The weights on their grid, float64 [V, C]."""
        return _rounded(self.weight, _WEIGHT)

    def extra_repr(self) -> str:
        """Sizes, as `nn.Linear` shows them."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


@contextmanager
def weights_held(net: nn.Module) -> Iterator[None]:
    """Inside, the weights of `net` do not change: their grids are computed once and not at every token.

    Nested, the end of the inner one ends it for the outer one too: the same bits, but slower.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, (SpikeLinear, ExactReadout))]
    try:
        with torch.no_grad():
            for layer in layers:
                layer._held = layer.used()
        yield
    finally:
        for layer in layers:
            layer._held = None


def _rounded(x: Tensor, steps: float) -> Tensor:
    wide = x.double() * steps
    # The gradient of rounding is taken as that of no rounding.
    return (wide + (torch.round(wide) - wide).detach()) / steps
