"""Memory for what the kernels write: kept when its tensor dies, and used again by the next one of that size.

The system hands out a fresh page zeroed, at a fault of its own, and glibc gives large pieces back when they are freed:
a layer's outputs would cost more in faults than in arithmetic. Here a piece that was used once is warm. Only as much
as `limit` is kept unused; SPIKEKIT_KEEP_MB sets it, and 0 leaves every allocation to torch.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from spikekit.errors import InputError

ENVIRONMENT_VARIABLE = "SPIKEKIT_KEEP_MB"
# Below, malloc's own free lists do the same.
_SMALLEST = 1 << 18
_HUGE_PAGE = 1 << 21


def _limit() -> int:
    text = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not text:
        return _physical() // 8
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < 1e9:
        raise InputError(f"${ENVIRONMENT_VARIABLE} must be a number of megabytes, 0 or more, got {text!r}")
    return int(megabytes * (1 << 20))


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 32


class Store:
    """Pieces of memory by size. limit: bytes that may lie unused; what was used longest ago goes first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._unused: list[mmap.mmap] = []
        # A piece comes back from a destructor, which may run anywhere, even while this thread holds the lock.
        self._returned: deque[mmap.mmap] = deque()
        self._lent: dict[int, weakref.ref[np.ndarray]] = {}

    @property
    def unused(self) -> int:
        """Bytes kept at the moment."""
        with self._lock:
            self._tidy()
            return sum(map(len, self._unused))

    def take(self, size: int) -> np.ndarray:
        """At least `size` bytes of whatever content, as an array uint8; they come back when the array dies."""
        step = _HUGE_PAGE if size >= 4 * _HUGE_PAGE else _SMALLEST
        size = -(-size // step) * step
        with self._lock:
            self._tidy()
            fitting = (i for i in reversed(range(len(self._unused))) if len(self._unused[i]) == size)
            index = next(fitting, None)
            piece = None if index is None else self._unused.pop(index)
        if piece is None:
            piece = mmap.mmap(-1, size)
            if size >= 4 * _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
                piece.madvise(mmap.MADV_HUGEPAGE)
        array = np.frombuffer(piece, np.uint8)
        key = id(array)

        def come_back(_: object, piece: mmap.mmap = piece) -> None:
            self._lent.pop(key, None)
            self._returned.append(piece)

        self._lent[key] = weakref.ref(array, come_back)
        return array

    def _tidy(self) -> None:
        while self._returned:
            self._unused.append(self._returned.popleft())
        excess = sum(map(len, self._unused)) - self.limit
        while excess > 0:
            excess -= len(self._unused.pop(0))


store = Store(_limit())


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Like `torch.empty` on the CPU: contiguous, content undefined."""
    size = prod(shape) * dtype.itemsize
    if size < _SMALLEST or not store.limit:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(store.take(size)[:size]).view(dtype).view(shape)


def empty_like(model: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Like `torch.empty_like` on the CPU for a `model` whose elements lie dense in some order of its axes."""
    dtype = model.dtype if dtype is None else dtype
    if model.numel() * dtype.itemsize < _SMALLEST or not store.limit:
        return torch.empty_like(model, dtype=dtype)
    # empty_like on the meta device gives the strides and costs nothing.
    strides = torch.empty_like(model, device="meta").stride()
    return empty((model.numel(),), dtype).as_strided(model.shape, strides)
