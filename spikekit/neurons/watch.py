"""Whether membranes on a GPU are finite, asked without waiting for it.

To wait once a layer would leave the GPU idle most of the time of a small network. Here the largest magnitude of the
last membrane, which no NaN or infinity leaves finite, is copied to the CPU behind the kernels that compute it, and
looked at by a later call of a neuron in the same thread, once it has arrived. An error comes late, and that of the very
last call not at all. CUDA_LAUNCH_BLOCKING=1, which makes CUDA's own errors come at once, does the same for these.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque

import torch
from torch import Tensor

from spikekit.errors import InputError


class Watch(threading.local):
    """The questions of one thread, in the order in which they were asked."""

    def __init__(self) -> None:
        self._asked: deque[tuple[torch.cuda.Event, Tensor, object]] = deque()

    def ask(self, value: Tensor, neuron: object) -> None:
        """Have `value`, the last membrane of `neuron`, looked at when it is there."""
        if not value.numel():
            return
        largest = torch.linalg.vector_norm(value.detach(), math.inf)
        # Also where the user's default device is the GPU.
        here = torch.empty((), dtype=largest.dtype, device="cpu", pin_memory=True)
        here.copy_(largest, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(value.device))
        # Not its text: that shows beta, for which the CPU would wait.
        self._asked.append((arrived, here, neuron))

    def look(self) -> None:
        """Raise InputError if an answer has arrived that is not finite. Never waits."""
        while self._asked and self._asked[0][0].query():
            _, largest, neuron = self._asked.popleft()
            if not math.isfinite(largest.item()):
                # What is still on its way comes of the same call or of those after it.
                self._asked.clear()
                raise InputError(
                    f"{neuron}: in an earlier call its membrane was not finite. The GPU is not waited for, so this "
                    "comes late: run with CUDA_LAUNCH_BLOCKING=1 to see which drive it was."
                )


def waits() -> bool:
    """Whether the user asked to be told at once."""
    return os.environ.get("CUDA_LAUNCH_BLOCKING", "0") not in ("", "0")


watch = Watch()
