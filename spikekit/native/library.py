"""Loading the kernels of an operation, and the record of whether they may be used: not before their self-test."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from spikekit.native.compile import Compiled, CompileError, compiled
from spikekit.native.judgement import Judgement

_REALS = {torch.float32: "float", torch.float64: "double"}
# A parallel region costs tens of microseconds: below this many elements one thread is faster.
_PARALLEL_FROM = 1 << 15


class Kernels:
    """The C file of one operation. self_test(dtype) runs them against the reference, and raises where they differ.

    Nothing happens before the first call of a method. Any thread may make it.
    """

    def __init__(self, source: Path, self_test: Callable[[torch.dtype], None]) -> None:
        self.source = source
        self._self_test = self_test
        self._libraries: dict[torch.dtype, ctypes.CDLL | CompileError] = {}
        self._compiled: dict[torch.dtype, Compiled] = {}
        self._refusals: dict[torch.dtype, str] = {}
        self._tester: Judgement | None = None
        self.forget_locks()
        _everywhere.add(self)

    def forget_locks(self) -> None:
        """After a fork: a thread that held a lock is not there to release it."""
        self._lock = threading.RLock()

    def library(self, dtype: torch.dtype) -> ctypes.CDLL:
        """The functions for float32 or float64 state, compiled at the first call. Raises CompileError."""
        found = self._libraries.get(dtype)
        if found is None:
            with self._lock:
                found = self._libraries.get(dtype) or self._load(dtype)
                self._libraries[dtype] = found
        if isinstance(found, CompileError):
            raise found
        return found

    def _load(self, dtype: torch.dtype) -> ctypes.CDLL | CompileError:
        try:
            self._compiled[dtype] = compiled(self.source, _REALS[dtype])
            return ctypes.CDLL(str(self._compiled[dtype].path))
        except CompileError as error:
            return error
        except OSError as error:
            return CompileError(f"the compiled kernels do not load: {error}")

    def compiled(self, dtype: torch.dtype) -> Compiled | None:
        """How the library for `dtype` was made; None as long as there is none."""
        return self._compiled.get(dtype)

    def trusted(self, dtype: torch.dtype) -> bool:
        """Whether they may be used for a state of `dtype`; the first call compiles and tests. Never raises."""
        return not self.refusal(dtype)

    def refusal(self, dtype: torch.dtype) -> str:
        """Why they may not be used; empty when they may."""
        found = self._refusals.get(dtype)
        # The self-test itself may come through the public operation, which asks here.
        if found is None and threading.current_thread() is self._tester:
            return ""
        if found is None:
            with self._lock:
                found = self._refusals.get(dtype)
                if found is None:
                    found = self._refusals[dtype] = self._judge(dtype)
        return found

    def _judge(self, dtype: torch.dtype) -> str:
        if dtype not in _REALS:
            return f"no kernels for {dtype}"
        try:
            self.library(dtype)
        except CompileError as error:
            return str(error)
        # Named before it starts, since the self-test may ask `refusal`.
        self._tester = Judgement(partial(self._self_test, dtype))
        try:
            return self._tester.reach()
        finally:
            self._tester = None


_everywhere: weakref.WeakSet[Kernels] = weakref.WeakSet()
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True
    for kernels in _everywhere:
        kernels.forget_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads_for(elements: int) -> int:
    """How many threads an operation on so many elements should use.

    One in a forked process: GNU's OpenMP waits there for ever for the threads that its parent had.
    """
    return torch.get_num_threads() if elements >= _PARALLEL_FROM and not _forked else 1


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor lies, for a field of a call; None, which C reads as NULL, for one that is absent or empty."""
    return None if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def point(call: ctypes.Structure, **tensors: Tensor | None) -> None:
    """Write the addresses of tensors into the fields of those names."""
    for name, tensor in tensors.items():
        setattr(call, name, address(tensor))
