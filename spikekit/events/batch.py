"""Samples to a time-first batch: what a DataLoader needs to feed [T, B, ...] to a network."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikekit.errors import InputError

Sample = tuple["Tensor | npt.NDArray[np.generic]", "int | Tensor"]


def collate_time_first(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Stack samples (frames [T, ...], label) -> x float32 [T, B, ...], y int64 [B].

    Frames are tensors or numpy arrays of any real dtype and one shape. Raises InputError for an empty list,
    for unequal shapes (naming the sample) and for a label that is not a whole number.
    """
    if not samples:
        raise InputError("collate_time_first got no samples; a batch needs at least one.")
    # A copy of numpy's: a read-only array must not become a tensor that can be written.
    frames = [
        frame if isinstance(frame, Tensor) else torch.from_numpy(np.array(frame, dtype=np.float32))
        for frame, _ in samples
    ]
    for i, frame in enumerate(frames):
        if frame.ndim == 0 or frame.shape != frames[0].shape:
            raise InputError(
                f"collate_time_first: sample {i} has frames of shape {list(frame.shape)}, sample 0 "
                f"has {list(frames[0].shape)}; a batch needs one shape [T, ...]. Bin and crop all alike."
            )
    return torch.stack(frames, dim=1).to(torch.float32), torch.tensor(
        [_label(label, i) for i, (_, label) in enumerate(samples)], dtype=torch.int64
    )


def _label(label: int | Tensor, i: int) -> int:
    try:
        return operator.index(label)
    except TypeError:
        raise InputError(f"collate_time_first: the label of sample {i} is not a whole number: {label!r}.") from None
