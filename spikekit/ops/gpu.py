"""Triton kernels: imported at first use, trusted after a self-test, and told how their arguments lie in memory.

On the CPU they run in Triton's interpreter, for tests: with TRITON_INTERPRET=1 in the environment and
`set_path("triton")`. Nothing here waits for the GPU, but for the self-test of the first call: CUDA graphs can record
every call after it.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from spikekit.native.judgement import Judgement

# Tuples inside kernels came with it.
OLDEST = (3, 3)
_INTERPRET = "TRITON_INTERPRET"

_PREFIX = "spikekit.surrogate."
# Steepness, height and half width of each curve, from the surrogate's own numbers: see `derivative` of the kernels.
_CURVES: dict[str, Callable[..., tuple[float, float, float]]] = {
    "ATan": lambda alpha: (math.pi / 2 * alpha, alpha / 2, 0.0),
    "Sigmoid": lambda alpha: (alpha, alpha, 0.0),
    "FastSigmoid": lambda slope: (slope, 1.0, 0.0),
    "Triangle": lambda width: (1 / width, 1 / width, 0.0),
    "Rectangle": lambda width: (0.0, 1 / width, width / 2),
    "StraightThrough": lambda: (0.0, 0.0, 0.0),
    "SechBump": lambda k, width: (2 * k / width, 2 * k / (width * math.tanh(k / 2)), width / 2),
    "Exponential": lambda alpha: (alpha, alpha / 2, 0.0),
}


def refusal() -> str:
    """Why no Triton kernel can run in this process; empty when they can. Imports Triton."""
    try:
        import triton
    except ImportError as error:
        found = importlib.util.find_spec("triton") is not None
        return f"Triton does not import: {error}" if found else "Triton is not installed"
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
        return f"Triton {triton.__version__} is older than {OLDEST[0]}.{OLDEST[1]}"
    if interpreted():
        return ""
    if not torch.cuda.is_available():
        return "no GPU"
    if torch.version.hip is None and torch.cuda.get_device_capability() < (8, 0):
        return f"{torch.cuda.get_device_name()} is older than what Triton supports, compute capability 8.0"
    return ""


def interpreted() -> bool:
    """Whether Triton interprets kernels, on the CPU, rather than compiling them: Triton's own setting."""
    return os.environ.get(_INTERPRET, "0").lower() in ("1", "true", "yes", "on", "y")


class Kernels:
    """The Triton kernels of one operation, in `module`. self_test(device, dtype) raises where they are wrong."""

    def __init__(self, module: str, self_test: Callable[[str, torch.dtype], None]) -> None:
        self._name = module
        self._self_test = self_test
        self._lock = threading.RLock()
        self._module: ModuleType | None = None
        self._refusals: dict[torch.dtype, str] = {}

    @property
    def module(self) -> ModuleType:
        """The module of the kernels. Raises ImportError."""
        if self._module is None:
            self._module = importlib.import_module(self._name)
        return self._module

    def trusted(self, dtype: torch.dtype) -> bool:
        """Whether they may be used for a state of `dtype`; the first call compiles and tests. Never raises."""
        if dtype not in self._refusals and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            # A test waits for the GPU, which would spoil the graph: record after a first call, as torch asks.
            return False
        return not self.refusal(dtype)

    def refusal(self, dtype: torch.dtype) -> str:
        """Why they may not be used; empty when they may."""
        if dtype not in self._refusals:
            with self._lock:
                if dtype not in self._refusals:
                    self._refusals[dtype] = refusal() or self._judge(dtype)
        return self._refusals[dtype]

    def _judge(self, dtype: torch.dtype) -> str:
        device = "cpu" if interpreted() else "cuda"
        return Judgement(partial(self._self_test, device, dtype)).reach()


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of the tensors."""
    if not x.is_cuda or x.get_device() == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(x.device)


def block(neurons: int) -> tuple[int, int]:
    """Neurons of a program and its warps: a small layer is cut finer, to reach all of the GPU."""
    return (256, 4) if neurons >= 1 << 16 else (64, 2)


def halves(number: float) -> tuple[float, float]:
    """A number as the sum of two float32, the only floating type that Triton takes as an argument."""
    high = float(np.float32(number))
    return high, number - high


@dataclass(frozen=True)
class Parameter:
    """A parameter of neurons for a kernel.

    kind: "one" number for all; "each": one of every neuron, in their order in memory; "periodic": the neuron at offset
    o has entry o // inner % count, such as one a channel.
    """

    kind: str
    values: Tensor
    inner: int
    count: int

    @property
    def arguments(self) -> tuple[Tensor, int, int]:
        """What the kernel takes, beside the kind."""
        return self.values, self.inner, self.count


def describe(value: Tensor, step: Tensor) -> Parameter:
    """`value`, broadcastable to the neurons of `step` [B, ...], which lies dense in some order of its axes."""
    if value.ndim == 0:
        # A number that stayed on the CPU is filled in: a copy from there would wait for the GPU.
        if value.device != step.device:
            value = torch.full((), value.item(), dtype=value.dtype, device=step.device)
        return Parameter("one", value, 1, 1)
    value = value.reshape((1,) * (step.ndim - value.ndim) + value.shape)
    axes = sorted((axis for axis in range(step.ndim) if step.shape[axis] != 1), key=step.stride, reverse=True)
    varies = [index for index, axis in enumerate(axes) if value.shape[axis] != 1]
    if not varies:
        return Parameter("one", value, 1, 1)
    inner = math.prod(step.shape[axis] for axis in axes[varies[-1] + 1 :])
    together = varies[-1] - varies[0] + 1 == len(varies)
    if together and len(varies) < len(axes) and step.numel() < 1 << 31:
        flat = value.permute(*(a for a in range(step.ndim) if a not in axes), *axes).contiguous()
        return Parameter("periodic", flat, inner, flat.numel())
    if value.stride() == step.stride() and value.shape == step.shape:
        return Parameter("each", value, 1, 1)
    return Parameter("each", torch.empty_like(step, dtype=value.dtype).copy_(value), 1, 1)


def arguments(parameters: Sequence[Parameter]) -> list[Tensor | int]:
    """The parameters as a kernel takes them, one after another."""
    return [argument for parameter in parameters for argument in parameter.arguments]


def knows(surrogate: str) -> bool:
    """Whether kernels have the derivative of the surrogate of that key."""
    return surrogate.startswith(_PREFIX) and surrogate.removeprefix(_PREFIX) in _CURVES


def curve(surrogate: str, numbers: Sequence[float]) -> tuple[str, list[float]]:
    """The name of a surrogate's derivative in the kernels and the constants that it takes."""
    name = surrogate.removeprefix(_PREFIX)
    return name, [half for number in _CURVES[name](*numbers) for half in halves(number)]
