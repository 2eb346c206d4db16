"""When events pay: what a convolution costs that touches only what is not zero, against the dense one.

All costs are in nanoseconds with one thread on x86 with AVX-512, measured on N×C×H×W 512×2×34×34, 512×16×17×17,
64×32×32×32, 64×64×16×16 and 16×128×8×8 at densities 0 to 0.2; only their ratios matter.
"""

from __future__ import annotations

from collections.abc import Sequence

from spikekit.ops.conv.cpu import out_size

# Events must cost less than this part of the dense convolution.
_GAIN = 0.85
# One multiply-add of the dense convolution, of its output also by the input channels, since few of them fill no vector;
# one of its gradient of the weight.
_DENSE, _DENSE_FEW, _DENSE_WEIGHT = 0.008, 0.03, 0.011
# One entry that is not zero, and sixteen output channels of one place that sees it.
_EVENT, _SUM = 10.0, 0.6
# One number looked at, one number of the output, one number of an image for which the places that see it are found.
_LIST, _OUT, _SETUP = 0.3, 0.25, 40.0


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
    entries = channels * height * width
    sums = high * wide / (steps[0] * steps[1]) * -(-outer // 16)
    events = entries * _SETUP + images * (
        entries * (_LIST + density * (_EVENT + sums * _SUM)) + _places(shape, weight, steps) * outer * _OUT
    )
    factor = _DENSE_WEIGHT if back else _DENSE + _DENSE_FEW / channels
    return events < _GAIN * factor * multiplications(shape, weight, steps)


def _places(shape: Sequence[int], weight: Sequence[int], steps: Sequence[int]) -> int:
    return out_size(shape[2], weight[2], *steps[::2]) * out_size(shape[3], weight[3], *steps[1::2])
