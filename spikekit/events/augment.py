"""Augmentation of frames: what a shaky hand, another distance or another hand's slant would have recorded.

All draw from torch's generator, which a Trainer seeds and restores. They take the frames [T, C, H, W] of one recording
and return frames of the same shape and dtype; where pixels move, they move alike in all steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
        return _sample(frames, matrix)


@dataclass(frozen=True)
class RandomElastic:
    """Bend: a smooth field of displacements, normal with standard deviation `pixels` at knots x knots points.

    As another hand would have written it: Simard, Steinkraus and Platt 2003, ICDAR. Takes the nearest pixel.
    """

    pixels: float = 1.5
    knots: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.pixels < math.inf:
            raise InputError(f"RandomElastic: pixels must be 0 or more, got {self.pixels}")
        if not (isinstance(self.knots, int) and self.knots >= 2):
            raise InputError(f"RandomElastic: knots must be a whole number, 2 or more, got {self.knots!r}")

    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        # Two units across the sensor, whatever its size: the coordinates of grid_sample.
        size = torch.tensor([2 * self.pixels / width, 2 * self.pixels / height]).reshape(1, 2, 1, 1)
        knots = torch.randn(1, 2, self.knots, self.knots) * size
        field = F.interpolate(knots, size=(height, width), mode="bicubic", align_corners=True)
        return _sample(frames, torch.eye(2, 3), field.movedim(1, -1))


@dataclass(frozen=True)
class RandomDrop:
    """Lose each spike with one probability, drawn anew for each recording between 0 and `most`.

    As a less sensitive camera would have recorded it: EventDrop, Gu et al. 2021, IJCAI.
    """

    most: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.most < 1:
            raise InputError(f"RandomDrop: most must be 0 or more and below 1, got {self.most}")

    def __call__(self, frames: Tensor) -> Tensor:
        lost = torch.rand(frames.shape) < self.most * torch.rand(())
        return frames.masked_fill(lost, 0)


class Compose:
    """Several augmentations, one after the other."""

    def __init__(self, *transforms: Callable[[Tensor], Tensor]) -> None:
        self.transforms = transforms

    def __call__(self, frames: Tensor) -> Tensor:
        for transform in self.transforms:
            frames = transform(frames)
        return frames

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


def _sample(frames: Tensor, matrix: Tensor, displacement: Tensor | float = 0.0) -> Tensor:
    """The nearest pixels of where an affine map [2, 3] and a field [1, H, W, 2] point; outside lies nothing."""
    image = frames.flatten(0, 1)[None].float()
    grid = F.affine_grid(matrix[None], list(image.shape), align_corners=False) + displacement
    moved = F.grid_sample(image, grid, mode="nearest", align_corners=False)
    return moved.reshape(frames.shape).to(frames.dtype)
