"""Max pooling of what is no spike: neurons with a dendrite for each place of a window, which send their largest sum.

The maximum of sums of currents is no sum of synapses; and to fire first and pool then is another network, but for its
first step. So such a pooling is a layer of its own. Each dendrite sums up what one place of the window receives; the
neuron sends the largest of these sums and its bias as one number, at every step anew:

    float      s = bias + max over dendrites of Σ w x
    integers   a = max over dendrites of (Σ w x) << exponent, wrapped around 24 bits as in Lava; v = a + bias, clipped;
               s = v / 2^message_shift, rounded to the nearest, halves upwards, and within ±`largest`

It has neither state nor threshold. Its messages have the units of `messages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from spikekit.errors import ExportError
from spikekit.export.layers import FloatLayer
from spikekit.export.pooling import pair
from spikekit.export.signal import Signal
from spikekit.export.synapses import MAXIMUM, Synapses
from spikekit.ops.integer import STATE_MAX, wrapped

_CLOSE = 1e-9


def places(name: str, pool: nn.MaxPool2d, signal: Signal) -> tuple[Signal, ...]:
    """What each place of the windows of `pool` sees of images: their maximum is what `pool` gives.

    name: what errors call the layer. Raises ExportError for windows that reach beyond the border, and for constants
    that differ inside a window.
    """
    window, stride, dilation = pair(pool.kernel_size), pair(pool.stride), pair(pool.dilation)
    if pool.return_indices:
        raise ExportError(f"{name} gives indices beside its output; make it with return_indices=False")
    try:
        out = pool(torch.zeros(1, *signal.shape)).shape[2:]
    except RuntimeError as error:
        raise ExportError(f"{name} cannot take the shape {signal.shape}: {error}") from error
    reach = [(n - 1) * step + (k - 1) * d + 1 for n, step, k, d in zip(out, stride, window, dilation, strict=True)]
    if any(pair(pool.padding)) or any(far > size for far, size in zip(reach, signal.shape[1:], strict=True)):
        raise ExportError(
            f"{name}: its windows reach beyond the border, and of sums of currents, which may be below 0, there is no "
            "largest where there is none; use padding=0 and ceil_mode=False"
        )
    found = []
    for at in product(*map(range, window)):
        kernel = np.zeros((1, 1, *window))
        kernel[0, 0][at] = 1.0

        def place(shape: tuple[int, ...], kernel: np.ndarray = kernel) -> Synapses:
            weight = np.repeat(kernel, shape[0], 0)
            return Synapses("conv", weight, shape, (shape[0], *out), stride, (0, 0), dilation, groups=shape[0])

        rows, columns = (
            slice(first * d, first * d + (n - 1) * step + 1, step)
            for first, d, n, step in zip(at, dilation, out, stride, strict=True)
        )
        terms = [term.behind(name, place(term.shape), term.offset) for term in signal.terms]
        found.append(Signal((signal.shape[0], *out), tuple(terms), signal.bias[:, rows, columns], name))
    # The order of its sums may differ between pixels.
    close = _CLOSE * float(np.abs(signal.bias).max())
    if any(np.abs(each.bias - found[0].bias).max() > close for each in found):
        raise ExportError(
            f"{name}: the constant in front of it differs inside a window, as at the border of a padded convolution "
            "behind a bias; put a neuron between the two, or leave the bias out"
        )
    return tuple(found)


def maximum_layer(name: str, found: Sequence[Signal]) -> FloatLayer:
    """The neurons that send the largest of `found`, signals of one shape."""
    inputs = tuple(
        replace(projection, dendrite=number)
        for number, signal in enumerate(found)
        for projection in signal.projections()
    )
    nothing = np.zeros(prod(found[0].shape))
    bias = found[0].bias.flatten()
    return FloatLayer(
        name, inputs, bias, None, nothing, nothing, nothing, "none", inclusive=True, fires=True, activation=MAXIMUM
    )


def largest_sum(sums: Mapping[int, Tensor]) -> Tensor:
    """Of sums by their dendrite the largest, each alike in shape."""
    return reduce(torch.maximum, sums.values())


def maximum_integer(
    sums: Tensor, bias: Tensor, message_shift: Tensor, exponent: int, largest: int
) -> tuple[Tensor, Tensor]:
    """Messages, in the dtype of `sums`, and what they round, int32.

    sums: `largest_sum` in units of exponent 0 [T, B, ...], whole numbers. bias, message_shift: int64 [...].
    """
    state = (wrapped(sums.to(torch.int64) << exponent) + bias).clamp(-STATE_MAX, STATE_MAX)
    messages = (state + ((1 << message_shift) >> 1)) >> message_shift
    return messages.clamp(-largest, largest).to(sums.dtype), state.to(torch.int32)
