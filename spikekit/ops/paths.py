"""Which implementation of an operation runs: what every dispatch asks, and what `spikekit doctor` prints."""

from __future__ import annotations

import os

import torch
from torch.autograd import forward_ad

from spikekit.errors import InputError
from spikekit.ops import gpu

ENVIRONMENT_VARIABLE = "SPIKEKIT_PATH"
PATHS = ("auto", "torch", "reference", "triton")

_choice = os.environ.get(ENVIRONMENT_VARIABLE, "auto")


def set_path(path: str) -> None:
    """Force one implementation for the whole process.

    "auto", the default: fused kernels where they serve, else the whole-sequence operators in plain torch; "torch":
    those operators always; "reference": the loops that define the operations. "triton" is "auto" with the GPU's kernels
    on the CPU too, in Triton's interpreter: for tests, and with TRITON_INTERPRET=1 in the environment.
    """
    global _choice
    if path not in PATHS:
        raise InputError(f"path must be one of {PATHS}, got {path!r} (check ${ENVIRONMENT_VARIABLE})")
    if path == "triton" and not gpu.interpreted():
        raise InputError("path 'triton' runs Triton's interpreter: set TRITON_INTERPRET=1 in the environment")
    _choice = path


set_path(_choice)


def forced_path() -> str:
    """The path set by `set_path` or by the environment variable SPIKEKIT_PATH."""
    return _choice


def triton_serves(device: str) -> bool:
    """Whether tensors of this type of device go to Triton kernels, where an operation has them."""
    return device == "cuda" or (device == "cpu" and _choice == "triton" and gpu.interpreted())


def functorch_active() -> bool:
    """True inside torch.func.vmap, grad and the like, and in forward-mode differentiation: no kernel serves there."""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def watched() -> bool:
    """Whether a mode looks at every operator: one that counts or changes torch's own does not know ours."""
    return not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() > 0
