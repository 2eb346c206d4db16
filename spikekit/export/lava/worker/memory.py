"""Shared memory without names: what Lava's channels and our results live in.

Lava takes each channel from `multiprocessing.shared_memory`: named segments under /dev/shm, owned by a
manager process and a resource tracker. Whoever kills those two leaks every segment. All of Lava's processes
are forked from the one that makes the channels, so an anonymous shared mapping serves as well, and the kernel
frees it with its last process, however that process ends. It also does not count against a small /dev/shm in
a container.
"""

from __future__ import annotations

import importlib
import math
import mmap
import multiprocessing.process
from typing import Any

import numpy as np
import numpy.typing as npt


class _Segment:
    """One anonymous mapping, with the two members of `SharedMemory` that Lava uses."""

    def __init__(self, size: int) -> None:
        self.buf = memoryview(mmap.mmap(-1, max(size, 1)))

    def close(self) -> None:
        """Nothing to do: the mapping ends with the process."""


class AnonymousMemoryManager:
    """Stands in for `lava...shared_memory_manager.SharedMemoryManager`."""

    def start(self) -> None:
        """Nothing to start: there is no manager process."""

    def shutdown(self) -> None:
        """Nothing to remove: there are no names."""

    def create_shared_memory(self, size: int) -> _Segment:
        """A new segment of `size` bytes, zeroed."""
        return _Segment(size)


def use_anonymous_channels(token: str) -> None:
    """Make Lava build its channels on anonymous memory, and name semaphores after this job.

    Python unlinks a semaphore's name right after opening it; a process killed between the two steps leaves
    `/dev/shm/sem.mp-<token>-*`, which the caller can then tell from everyone else's.
    """
    messages = importlib.import_module("lava.magma.runtime.message_infrastructure.multiprocessing")
    messages.SharedMemoryManager = AnonymousMemoryManager  # type: ignore[attr-defined]
    settings: dict[str, Any] = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]
    settings["semprefix"] = f"/mp-{token}"


def shared_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of zeros that a forked process writes and this process reads."""
    kind = np.dtype(dtype)
    count = math.prod(shape)
    memory = mmap.mmap(-1, max(count * kind.itemsize, 1))
    return np.frombuffer(memory, dtype=kind, count=count).reshape(shape)
