"""Augmentation of frames: what a shaky hand or another crop would have done to a recording."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikekit.errors import InputError


@dataclass(frozen=True)
class RandomShift:
    """Shift a whole recording by up to `pixels` in x and y; what leaves the sensor is lost, what enters is empty.

    Called with frames [T, C, H, W], returns frames of the same shape and dtype. Draws from torch's generator, which a
    Trainer seeds and restores.
    """

    pixels: int = 2

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise InputError(f"RandomShift: pixels must be 0 or more, got {self.pixels}")

    def __call__(self, frames: Tensor) -> Tensor:
        reach, (height, width) = self.pixels, frames.shape[-2:]
        dy, dx = torch.randint(0, 2 * reach + 1, (2,)).tolist()
        return F.pad(frames, (reach, reach, reach, reach))[..., dy : dy + height, dx : dx + width]
