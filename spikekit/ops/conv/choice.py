"""When events pay: what a convolution costs that touches only what is not zero, against the dense one.

All costs are in nanoseconds with one thread on x86 with AVX-512, fitted to 140 convolutions of 1 to 64 channels to 12,
32 and 128, with kernels of 1 to 7 and strides of 1 and 2. Only their ratios matter. Half of these convolutions cost
within 10 % of what is said here.
"""

from __future__ import annotations

from collections.abc import Sequence

from spikekit.ops.conv.cpu import out_size

# Events must cost less than this part of the dense convolution.
_GAIN = 0.8
# Output channels that a vector holds: what is left of the last one is computed for nothing.
_LANES = 16
# One multiply-add of the dense convolution and of its gradient of the weight, one number that goes in or comes out.
_DENSE, _DENSE_WEIGHT, _MOVED = 0.0095, 0.0105, 0.3
# One entry that is not zero, and one vector of one place that sees it.
_EVENT, _SUM = 5.0, 0.65
# One number looked at, one number of the output.
_LOOK, _OUT = 0.25, 0.3
# Once, however many images: one number of an image, one tap that may see a place, one number of the weight, which is
# laid out anew, and of each part of its gradient. And our bookkeeping.
_ENTRY, _TAP, _WEIGHT, _PART, _CALL = 3.0, 3.0, 2.0, 0.5, 1e5
# Parts that the gradient of the weight is summed in.
_PARTS = 16


# Multiply-adds below which our bookkeeping costs more than is gained, without and with a gradient.
_SMALLEST, _SMALLEST_WITH_GRADIENT = 1 << 24, 1 << 26


def large(multiplications: int, gradient: bool) -> bool:
    """Whether a convolution of so many multiply-adds may gain from events at all. gradient: one is to pass."""
    return multiplications >= (_SMALLEST_WITH_GRADIENT if gradient else _SMALLEST)


def multiplications(shape: Sequence[int], weight: Sequence[int], steps: Sequence[int]) -> int:
    """Multiply-adds of the dense convolution of images `shape` with a weight of that shape."""
    (images, channels), (outer, _, high, wide) = shape[:2], weight
    return images * _places(shape, weight, steps) * channels * high * wide * outer


def events_pay(
    density: float, shape: Sequence[int], weight: Sequence[int], steps: Sequence[int], *, back: bool
) -> bool:
    """Whether images, so dense, are to be summed event by event.

    shape: [N, C, H, W]. weight: [O, C, h, w]. steps: stride, padding and dilation, each in y and x. back: for the
    gradient of the weight, otherwise for the output.
    """
    images, channels, height, width = shape
    outer, _, high, wide = weight
    taps, entries = high * wide, channels * height * width
    vectors = -(-outer // _LANES)
    padded, places = vectors * _LANES, _places(shape, weight, steps)
    weights = channels * taps * padded * (_PART * min(images, _PARTS) if back else _WEIGHT)
    once = _CALL + weights + entries * _ENTRY + height * width * taps * _TAP
    sums = taps / (steps[0] * steps[1]) * vectors
    events = once + images * (entries * (_LOOK + density * (_EVENT + sums * _SUM)) + places * padded * _OUT)
    product = (_DENSE_WEIGHT if back else _DENSE) * places * channels * taps * padded
    dense = images * (product + _MOVED * (entries + places * outer))
    return events < _GAIN * dense


def input_gradient_channels_last(weight: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether torch computes the gradient of the input faster channels last, where that of the output lies so.

    Measured: 1.0 to 4 times as fast, but 0.7 to 0.9 for kernels of 5 and over without padding on 4 to 48 channels.
    """
    return weight[1] <= 2 or weight[2] * weight[3] <= 9 or max(steps[2:4]) > 0


def _places(shape: Sequence[int], weight: Sequence[int], steps: Sequence[int]) -> int:
    return out_size(shape[2], weight[2], *steps[::2]) * out_size(shape[3], weight[3], *steps[1::2])
