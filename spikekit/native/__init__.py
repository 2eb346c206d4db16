"""The C kernels: compiled by the system's own compiler at first use, loaded with ctypes, trusted after a self-test."""

from __future__ import annotations

from spikekit.native.library import Kernels, address, point, threads_for
from spikekit.native.memory import empty, empty_like

__all__ = ["Kernels", "address", "empty", "empty_like", "point", "threads_for"]
