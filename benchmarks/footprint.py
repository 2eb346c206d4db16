"""How much memory a training step takes: what autograd keeps, byte by byte, and the peak of the process."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from spikekit.native.memory import store

MIB = 1 << 20


def kept_for_backward(forward: Callable[[], object], besides: Iterable[Tensor] = ()) -> int:
    """Bytes of all storages that autograd saves in `forward` and still holds at its end, each once.

    besides: tensors that exist anyway, such as the parameters and the input, whose storages do not count.
    """
    anyway = {StorageWeakRef(tensor.untyped_storage()) for tensor in besides}
    kept: dict[StorageWeakRef, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Not by address, which the next storage may have when this one is gone.
        kept[StorageWeakRef(storage)] = storage.nbytes()
        # Attached, an output that an operation saves would hold itself alive.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Held, because what is saved lives as long as the output.
        _out = forward()
        sizes = [size for ref, size in kept.items() if ref not in anyway and not ref.expired()]
    return sum(sizes)


class Peak:
    """The most memory that the process held since `start`, beyond what it held then; on Linux alone."""

    def __init__(self) -> None:
        self.before = 0

    @staticmethod
    def available() -> bool:
        """Whether the system tells, and lets the highest value be set back."""
        try:
            _start_anew()
            _status("VmHWM")
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Give back what is free, and forget the highest value so far. Raises OSError where that cannot be done."""
        gc.collect()
        store.drop()
        # glibc's; without it, freed memory that is used again would not count.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        _start_anew()
        self.before = _status("VmRSS")

    def bytes(self) -> int:
        """Bytes since start."""
        return max(0, _status("VmHWM") - self.before)


def _start_anew() -> None:
    """Set the highest value back to what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {key}")
    return int(found[1]) << 10
