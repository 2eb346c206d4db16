"""Augmentation of frames: what a shaky hand, another distance or another hand's slant would have recorded.

Both draw from torch's generator, which a Trainer seeds and restores. They take the frames [T, C, H, W] of one recording
and return frames of the same shape and dtype, all steps moved alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from spikekit.errors import InputError


@dataclass(frozen=True)
class RandomShift:
    """Shift by up to `pixels` in x and y; what leaves the sensor is lost, what enters is empty."""

    pixels: int = 2

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise InputError(f"RandomShift: pixels must be 0 or more, got {self.pixels}")

    def __call__(self, frames: Tensor) -> Tensor:
        reach, (height, width) = self.pixels, frames.shape[-2:]
        dy, dx = torch.randint(0, 2 * reach + 1, (2,)).tolist()
        return F.pad(frames, (reach, reach, reach, reach))[..., dy : dy + height, dx : dx + width]


@dataclass(frozen=True)
class RandomAffine:
    """Rotate, scale, shear and shift about the centre, each uniformly within its range.

    degrees: of rotation. scale: relative change of size, below 1. shear: slant in x per y. pixels: of shift.
    Takes the nearest pixel, so that binary frames stay binary.
    """

    degrees: float = 10.0
    scale: float = 0.1
    shear: float = 0.1
    pixels: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            limit, text = (1.0, " and below 1") if field.name == "scale" else (math.inf, "")
            if not 0 <= value < limit:
                raise InputError(f"RandomAffine: {field.name} must be 0 or more{text}, got {value}")

    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        turn, size, slant, dx, dy = (2 * torch.rand(5) - 1).tolist()
        angle, size = math.radians(self.degrees) * turn, 1 + self.scale * size
        cos, sin = size * math.cos(angle), size * math.sin(angle)
        # affine_grid works on [-1, 1] in both axes: rotations of a sensor that is not square need its aspect.
        matrix = torch.tensor(
            [
                [cos, -sin * height / width + self.shear * slant, 2 * self.pixels * dx / width],
                [sin * width / height, cos, 2 * self.pixels * dy / height],
            ]
        )
        image = frames.flatten(0, 1)[None].float()
        grid = F.affine_grid(matrix[None], list(image.shape), align_corners=False)
        moved = F.grid_sample(image, grid, mode="nearest", align_corners=False)
        return moved.reshape(frames.shape).to(frames.dtype)
