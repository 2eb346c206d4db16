"""Memory for what the kernels write: kept when its tensor dies, and used again by the next one of that size.

The system hands out a fresh page zeroed, at a fault of its own, and glibc gives large pieces back when they are freed:
a layer's outputs would cost more in faults than in arithmetic. Here a piece that was used once is warm. Only as much
as `limit` is kept unused; SPIKEKIT_KEEP_MB sets it, and 0 leaves every allocation to torch.

A tensor from here is like any other but for one thing: torch cannot enlarge it (`resize_`, `out=` with another shape).
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

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
    """Bytes of memory of this machine, or of the container that the process is held in."""
    size = 1 << 32
    with suppress(AttributeError, ValueError, OSError):
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(ValueError, OSError):
            size = min(size, int(Path(file).read_text()))
    return size


class _Loan(weakref.ref[np.ndarray]):
    """The array that was handed out, and the piece to be taken back when it dies."""

    __slots__ = ("piece",)
    piece: mmap.mmap


class Store:
    """Pieces of memory by size. limit: bytes that may lie unused; sizes used longest ago go first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # A piece comes back from a destructor, which may run anywhere, even while this thread holds the lock.
        self._returned: deque[mmap.mmap] = deque()
        # By the id of the loan; a weak reference calls back only as long as it lives itself.
        self._lent: dict[int, _Loan] = {}
        self.forget()

    def forget(self) -> None:
        """Start with nothing unused and a free lock: in a forked process nobody may be left to release the old one."""
        self._lock = threading.Lock()
        self._returned.clear()
        # The sizes in the order of their last use, the oldest first.
        self._pieces: dict[int, list[mmap.mmap]] = {}
        self._unused = 0

    def drop(self) -> None:
        """Give all that lies unused back to the system."""
        with self._lock:
            self._pieces, self._unused = {}, 0

    @property
    def unused(self) -> int:
        """Bytes kept at the moment."""
        self._tidy()
        return self._unused

    def take(self, size: int) -> np.ndarray:
        """At least `size` bytes of whatever content, as an array uint8; they come back when the array dies.

        Raises OSError when the system has no memory left.
        """
        step = _HUGE_PAGE if size >= 4 * _HUGE_PAGE else _SMALLEST
        size = -(-size // step) * step
        with self._lock:
            pieces = self._pieces.get(size)
            piece = pieces.pop() if pieces else None
            if piece is not None:
                self._unused -= size
        self._tidy()
        if piece is None:
            piece = _new_piece(size)
        array = np.frombuffer(piece, np.uint8)
        loan = _Loan(array, self._take_back)
        loan.piece = piece
        self._lent[id(loan)] = loan
        return array

    def _take_back(self, loan: weakref.ref[np.ndarray]) -> None:
        del self._lent[id(loan)]
        self._returned.append(loan.piece)  # type: ignore[attr-defined]
        self._tidy()

    def _tidy(self) -> None:
        # Whoever holds the lock comes here after it, so nothing stays behind when it cannot be had.
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._sort_in()
            finally:
                self._lock.release()

    def _sort_in(self) -> None:
        while self._returned:
            piece = self._returned.popleft()
            size = len(piece)
            pieces = self._pieces.pop(size, [])
            pieces.append(piece)
            self._pieces[size] = pieces
            self._unused += size
        while self._unused > self.limit:
            oldest = next(iter(self._pieces))
            pieces = self._pieces[oldest]
            if pieces:
                self._unused -= len(pieces.pop())
            else:
                del self._pieces[oldest]


def _new_piece(size: int) -> mmap.mmap:
    # Python's own default is to share the pages with forked processes.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    piece = mmap.mmap(-1, size, **private)
    if size >= 4 * _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        # A kernel without huge pages says that it does not know the word.
        with suppress(OSError):
            piece.madvise(mmap.MADV_HUGEPAGE)
    return piece


store = Store(_limit())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=store.forget)


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Like `torch.empty` on the CPU: contiguous, content undefined."""
    count = prod(shape)
    if _too_small(count, dtype):
        return torch.empty(shape, dtype=dtype)
    return _warm(count, dtype).view(shape)


def empty_like(model: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Like `torch.empty_like` on the CPU for a `model` whose elements lie dense in some order of its axes."""
    dtype = model.dtype if dtype is None else dtype
    count = model.numel()
    if _too_small(count, dtype):
        return torch.empty_like(model, dtype=dtype)
    if model.is_contiguous():
        return _warm(count, dtype).view_as(model)
    # empty_like on the meta device gives the strides and costs nothing.
    return _warm(count, dtype).as_strided(model.shape, torch.empty_like(model, device="meta").stride())


def _too_small(count: int, dtype: torch.dtype) -> bool:
    return count * dtype.itemsize < _SMALLEST or not store.limit


def _warm(count: int, dtype: torch.dtype) -> Tensor:
    try:
        return torch.frombuffer(store.take(count * dtype.itemsize), dtype=dtype, count=count)
    except OSError:
        # What is kept here may be what is missing; if not, torch raises the error that everyone knows.
        store.drop()
        return torch.empty(count, dtype=dtype)
