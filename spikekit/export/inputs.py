"""What an export takes: a network outside of sessions, and [T, B, ...] of whole numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikekit import state as sessions
from spikekit.errors import ExportError, InputError

# Numbers looked at in one go: they stay in cache between the two passes.
_PIECE = 1 << 18


def check_network(net: nn.Module, who: str) -> None:
    """Raise InputError for what is no network with its weights in memory, ExportError inside run() or record()."""
    if sessions.active() is not None:
        raise ExportError(f"{who} was called inside run() or record(); call it outside")
    if not isinstance(net, nn.Module):
        raise InputError(f"{who}: net must be a torch.nn.Module, got {type(net).__name__}")
    for name, module in net.named_modules():
        if isinstance(module, nn.Embedding):
            raise ExportError(
                f"{who}: {type(net).__name__} reads tokens, by the Embedding {name!r}, and a chip receives spikes or "
                "counts. A language model does not export; export a network without an Embedding."
            )
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if tensor.is_meta:
            raise InputError(
                f"{who}: {name} is on the meta device, where tensors have no values; load the weights first: "
                "net.to_empty(device='cpu'), then net.load_state_dict(...)"
            )


def check_whole(x: Tensor, in_shape: tuple[int, ...], who: str) -> None:
    """Raise InputError unless x is [T, B, *in_shape], not empty, and holds whole numbers."""
    if not isinstance(x, Tensor):
        raise InputError(f"{who}: the input must be a torch.Tensor, got {type(x).__name__}")
    if x.ndim < 3 or tuple(x.shape[2:]) != in_shape or 0 in x.shape:
        wanted = ", ".join(map(str, ("T", "B", *in_shape)))
        raise InputError(f"{who}: the input must be [{wanted}] with T, B > 0, got {tuple(x.shape)}")
    if x.is_complex() or x.layout is not torch.strided or x.device.type == "meta":
        raise InputError(f"{who}: the input must hold real numbers, dense and in memory, got {x.layout}, {x.dtype}")
    if not x.is_floating_point() or _whole(x):
        return
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"{who}: the input holds NaN or Inf; look at the data it was made from")
    raise InputError(
        f"{who}: the input holds fractions; a chip receives spikes or counts. "
        "Use binary frames, or put the encoding into the first layer."
    )


def checked_calibration(calibration: Tensor, headroom: float, who: str) -> Tensor:
    """Calibration data on the CPU. Raises InputError for anything but whole numbers [T, B, ...] and a headroom >= 1."""
    if not isinstance(calibration, Tensor):
        raise InputError(f"{who}: calibration must be a torch.Tensor, got {type(calibration).__name__}")
    if calibration.ndim < 3 or 0 in calibration.shape:
        raise InputError(f"{who}: calibration must be [T, B, C, ...], not empty, got {tuple(calibration.shape)}")
    if isinstance(headroom, bool) or not isinstance(headroom, (int, float)) or not 1 <= headroom < math.inf:
        raise InputError(f"{who}: headroom must be a number of at least 1, got {headroom!r}")
    calibration = calibration.detach().cpu()
    check_whole(calibration, tuple(calibration.shape[2:]), f"{who}: calibration")
    return calibration


def largest(x: Tensor) -> int:
    """The largest |x| of whole numbers, of any dtype: abs is not there for bool, and leaves int8's -128 below 0."""
    return max(int(x.max()), -int(x.min()))


def events(x: Tensor, graded: bool) -> Tensor:
    """How many events each number of x is: a message, of any size, is one; a count of 3 in a step is three spikes."""
    return (x != 0) if graded else x if x.dtype == torch.bool else x.abs()


def _whole(x: Tensor) -> bool:
    """Whether all numbers are finite and whole: NaN and Inf have a fraction that is NaN, and is counted."""
    samples = max(1, _PIECE // x[:, 0].numel()) if x.device.type == "cpu" else x.shape[1]
    return not any(bool(piece.frac().count_nonzero()) for piece in x.split(samples, dim=1))
