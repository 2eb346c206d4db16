"""When events pay: what a product costs that touches only what is not zero, against the dense product.

All costs are in multiply-adds of the dense product, of which x [R, K] with N columns to sum needs R·K·N. Measured with
one thread on x86 with AVX-512 (K×N 700×256, 256×256, 1024×1024, 4096×512, 256×20, rows 160 to 6400, density 0 to 0.5):
where this rule chose events they were 1.05 to 10 times as fast.
"""

from __future__ import annotations

# Events must cost less than this part of the dense product.
_GAIN = 0.9
# One entry of a row summed: it is read from a place in cache that no processor foresees.
_SUM = 1.8
# One entry put in the order of columns, for the gradient of the weight.
_SORT = 80
# One number of x looked at.
_LIST = 8
# One number of the dense matrix packed.
_PACK = 60
# Below so many in all, our bookkeeping costs more than is gained: 15 µs a product, and 60 µs more where a gradient is
# to pass, since torch's own operators need no Python for theirs.
_SMALLEST, _SMALLEST_WITH_GRADIENT = 1 << 22, 1 << 23


def large(multiplications: int, gradient: bool) -> bool:
    """Whether a product of so many multiply-adds may gain from events at all. gradient: one is to pass through it."""
    return multiplications >= (_SMALLEST_WITH_GRADIENT if gradient else _SMALLEST)


def events_pay(density: float, rows: int, inner: int, outer: int, *, by_column: bool = False) -> bool:
    """Whether x [rows, inner], so dense, is to be summed event by event against a matrix of `outer` columns.

    by_column: for the gradient of the weight, where the events of a column of x are summed.
    """
    event = _SUM + (_SORT / outer if by_column else 0)
    return density * event + _LIST / outer + _PACK / rows < _GAIN
