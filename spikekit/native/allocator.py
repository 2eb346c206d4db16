"""What glibc does with freed memory: an explicit setting, for all that torch itself allocates.

Tensors of our own kernels need none of it (`spikekit.native.memory`); the outputs of linear layers do.
"""

from __future__ import annotations

import ctypes

from spikekit.errors import InputError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


def tune_allocator() -> None:
    """Let the C library keep freed memory instead of giving it back to the system, for the rest of this process.

    On Linux a tensor of more than 32 MiB is mapped anew each time it is allocated, and its first use costs a page
    fault for every 4 KiB: on the CPU often more than the arithmetic. After this call the memory of tensors up to 1 GiB
    is used again. The price: the process stays as large as it once was. Call it once, before training.

    Raises InputError where the C library is not glibc, or another allocator has taken its place.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError) as error:
        raise InputError("tune_allocator: needs glibc's mallopt, which this platform does not have") from error
    if not (mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)):
        raise InputError("tune_allocator: the C library refused; it is not glibc's own malloc that serves here")
