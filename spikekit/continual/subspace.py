"""What a weight matrix is given, as a subspace: rows H that span it, and what is left of an input outside them.

With orthonormal rows, x - HᵀH·x is the part of x outside the span, and a gradient G of a weight W becomes G - G·HᵀH.
Both ways to the same step: for G = δᵀ·x the projected input gives δᵀ·(x - x·HᵀH) = G - G·HᵀH. After such a step W·x is
what it was for every x in the span (Farajtabar et al. 2020, Zeng et al. 2019).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikekit.errors import InputError
from spikekit.ops.linear import linear

Projected = nn.Linear | nn.Conv2d
PROJECTED = (nn.Linear, nn.Conv2d)
"""The layers whose inputs are known as rows of a matrix: features of a linear layer, patches of a convolution."""


class Subspace:
    """Rows [k, n] for the weight of one layer, n inputs of a neuron; the first `kept` of them are never changed.

    layer: nn.Linear, or nn.Conv2d without groups; n = C·kh·kw there. The rows have the weight's dtype and follow it to
    its device. Raises InputError for other layers.
    """

    def __init__(self, name: str, layer: nn.Module) -> None:
        if not isinstance(layer, PROJECTED) or (isinstance(layer, nn.Conv2d) and layer.groups != 1):
            raise InputError(
                f"layer {name!r} is {layer}: its inputs have no subspace here, which nn.Linear and nn.Conv2d without "
                "groups have; leave it out by layers=[...], and set requires_grad=False on its weight when the second "
                "task begins, or it forgets"
            )
        self.name, self.layer = name, layer
        self.width = layer.weight[0].numel()
        self.kept = 0
        self.rows = layer.weight.detach().new_zeros(0, self.width)
        self._complement: Tensor | None = None

    @property
    def old(self) -> Tensor:
        """The rows that are kept: what earlier tasks gave."""
        return self.rows[: self.kept]

    def to_layer(self) -> None:
        """Follow the weight to where it is now."""
        self.rows = self.rows.to(self.layer.weight)

    def keep(self) -> None:
        """Keep all rows as they are from now on."""
        self.kept, self._complement = len(self.rows), None

    def restore(self, rows: Tensor, kept: int) -> None:
        """Have these rows [k, n], the first `kept` of them kept."""
        self.rows, self.kept, self._complement = rows.to(self.layer.weight, copy=True), kept, None

    def outside(self, x: Tensor) -> Tensor:
        """What is left of rows x [N, n] outside the kept rows: x - x·HᵀH."""
        return torch.addmm(x, linear(x, self.old), self.old, alpha=-1) if self.kept else x

    def residual(self, x: Tensor) -> Tensor:
        """The same for inputs of the layer; where they are sparse, only rows of I - HᵀH that meet one are summed."""
        if not self.kept:
            return x
        if self._complement is None or self._complement.device != x.device:
            self._complement = torch.eye(self.width, dtype=x.dtype, device=x.device).addmm_(
                self.old.T, self.old, alpha=-1
            )
        return linear(x, self._complement)

    def project(self, gradient: Tensor) -> Tensor:
        """What is left of a gradient of the weight, of its shape, outside the kept rows."""
        return self.outside(gradient.flatten(1)).view_as(gradient)

    def drift(self) -> float:
        """max|HHᵀ - I|: how far the rows are from orthonormal; 0 without rows."""
        if not len(self.rows):
            return 0.0
        gram = self.rows @ self.rows.T
        gram.diagonal().sub_(1)
        return float(gram.abs().max())

    def orthonormalise(self) -> None:
        """Make the rows that are not kept orthonormal, and orthogonal to those that are, in the same span."""
        fresh = orthonormal(self.rows[self.kept :], self.old)
        self.rows = torch.cat([self.old, fresh])


def orthonormal(rows: Tensor, old: Tensor) -> Tensor:
    """Orthonormal rows that span, with the orthonormal `old`, what `rows` and `old` do."""
    # In float64, and against the old rows twice: once leaves as much of them as rounding makes of it.
    wide, base = rows.double(), old.double()
    for _ in range(2):
        wide = wide - (wide @ base.T) @ base
        wide = torch.linalg.qr(wide.T).Q.T
    return wide.to(rows.dtype)


def inputs(
    layer: Projected, signal: Tensor, rows: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """The rows [N, n] that the weight of `layer` multiplies for a presynaptic `signal` [N, ...].

    Features of a linear layer, patches of a convolution, padding included. rows: at most so many, drawn at random.
    """
    if isinstance(layer, nn.Linear):
        return draw((signal.reshape(-1, signal.shape[-1]),), rows, generator)[0]
    signal = signal.reshape(-1, *signal.shape[-3:])
    if rows is not None:
        # Patches of all images of all steps may take more memory than the network: few images give enough of them.
        (signal,) = draw((signal,), max(1, -(-8 * rows // _places(layer, signal))), generator)
    kernel, padding = cast(tuple[int, int], layer.kernel_size), layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        signal, padding = functional.pad(signal, layer._reversed_padding_repeated_twice, mode=mode), (0, 0)
    patches = functional.unfold(
        signal, kernel, cast(tuple[int, int], layer.dilation), padding, cast(tuple[int, int], layer.stride)
    )
    return draw((patches.transpose(1, 2).reshape(-1, patches.shape[1]),), rows, generator)[0]


def draw(samples: tuple[Tensor, ...], count: int | None, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """At most `count` of samples [N, ...], drawn without replacement; the same of each tensor."""
    length = len(samples[0])
    if count is None or length <= count:
        return samples
    chosen = torch.randperm(length, generator=generator)[:count].to(samples[0].device)
    return tuple(sample[chosen] for sample in samples)


def _places(layer: nn.Conv2d, signal: Tensor) -> int:
    """About how many patches an image has."""
    stride = cast(tuple[int, int], layer.stride)
    return max(1, signal.shape[-2] * signal.shape[-1] // (stride[0] * stride[1]))
