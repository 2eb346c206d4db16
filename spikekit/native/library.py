"""Loading the kernels of an operation, and the record of whether they may be used: not before their self-test."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from spikekit.native.compile import CompileError, compiled

_REALS = {torch.float32: "float", torch.float64: "double"}
# A parallel region costs tens of microseconds: below this many elements one thread is faster.
_PARALLEL_FROM = 1 << 15


class Kernels:
    """The C file of one operation. self_test(dtype) runs them against the reference, and raises where they differ."""

    def __init__(self, source: Path, self_test: Callable[[torch.dtype], None]) -> None:
        self.source = source
        self._self_test = self_test
        self._lock = threading.RLock()
        self._libraries: dict[torch.dtype, ctypes.CDLL | CompileError] = {}
        self._refusals: dict[torch.dtype, str] = {}

    def library(self, dtype: torch.dtype) -> ctypes.CDLL:
        """The functions for float32 or float64 state, compiled at the first call. Raises CompileError."""
        found = self._libraries.get(dtype)
        if found is None:
            with self._lock:
                found = self._libraries.setdefault(dtype, self._load(dtype))
        if isinstance(found, CompileError):
            raise found
        return found

    def _load(self, dtype: torch.dtype) -> ctypes.CDLL | CompileError:
        try:
            return ctypes.CDLL(str(compiled(self.source, _REALS[dtype])))
        except CompileError as error:
            return error
        except OSError as error:
            return CompileError(f"the compiled kernels do not load: {error}")

    def trusted(self, dtype: torch.dtype) -> bool:
        """Whether they may be used for a state of `dtype`; the first call compiles and tests. Never raises."""
        return not self.refusal(dtype)

    def refusal(self, dtype: torch.dtype) -> str:
        """Why they may not be used; empty when they may."""
        if dtype not in self._refusals:
            with self._lock:
                if dtype not in self._refusals:
                    self._refusals[dtype] = self._judge(dtype)
        return self._refusals[dtype]

    def _judge(self, dtype: torch.dtype) -> str:
        if dtype not in _REALS:
            return f"no kernels for {dtype}"
        try:
            self.library(dtype)
            # The first call of a kernel may come from inside inference_mode, whose tensors no gradient passes.
            with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
                self._self_test(dtype)
        except CompileError as error:
            return str(error)
        except Exception as error:
            return f"self-test failed: {type(error).__name__}: {error}"
        return ""


def threads_for(elements: int) -> int:
    """How many threads an operation on so many elements should use."""
    return torch.get_num_threads() if elements >= _PARALLEL_FROM else 1


def point(call: ctypes.Structure, **tensors: Tensor | None) -> None:
    """Write the addresses of tensors into the fields of those names; absent and empty ones are NULL."""
    for name, tensor in tensors.items():
        setattr(call, name, None if tensor is None or tensor.numel() == 0 else tensor.data_ptr())
