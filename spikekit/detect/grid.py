"""Where the predictions of a detector look: the cells of each scale and the anchors in them.

A detector gives N raw predictions a sample, [T, B, N, 5 + classes]: for each scale, finest first, anchor by anchor, row
by row. With sigmoids σ of the raw values, as in YOLOv5 (Jocher et al. 2020):

    centre = (2·σ(xy) - ½ + cell) · stride,   size = (2·σ(wh))² · anchor,   score = σ(object) · σ(class)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from spikekit.errors import InputError


class Detector(Protocol):
    """A network with two or more scales: anchors [S, A, 2] in pixels, strides, classes."""

    anchors: Tensor
    classes: int

    @property
    def strides(self) -> Sequence[int]:
        """Pixels a cell of each scale, the finest first."""


@dataclass(frozen=True)
class Scale:
    """One scale: its stride, its anchors (width, height) in pixels, its cells, and where it begins among all N."""

    stride: int
    anchors: tuple[tuple[float, float], ...]
    width: int
    height: int
    start: int

    @property
    def count(self) -> int:
        """Number of its predictions."""
        return len(self.anchors) * self.width * self.height


@dataclass(frozen=True)
class Grid:
    """The scales of a detector on images of one size (width, height)."""

    scales: tuple[Scale, ...]
    size: tuple[int, int]
    classes: int

    @classmethod
    def of(cls, net: Detector, size: tuple[int, int]) -> Grid:
        """The grid of `net` on images (width, height), multiples of its largest stride."""
        if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, Integral) for side in size):
            raise InputError(f"Grid: size must be (width, height), two whole numbers, got {size!r}")
        size = (int(size[0]), int(size[1]))
        if any(side < 1 or side % max(net.strides) for side in size):
            raise InputError(f"Grid: width and height must be multiples of {max(net.strides)}, got {size}")
        scales: list[Scale] = []
        start = 0
        for stride, anchors in zip(net.strides, net.anchors.tolist(), strict=True):
            pairs = tuple((float(w), float(h)) for w, h in anchors)
            scales.append(Scale(stride, pairs, size[0] // stride, size[1] // stride, start))
            start += scales[-1].count
        return cls(tuple(scales), size, net.classes)

    @property
    def count(self) -> int:
        """N, the number of predictions a sample."""
        return sum(scale.count for scale in self.scales)

    def places(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cell (column, row) [N, 2], stride [N, 1] and anchor [N, 2] of every prediction, on the device of `like`."""
        return _places(self, like.device)

    def check(self, output: Tensor, where: str = "Grid") -> Tensor:
        """The mean over time of output [T, B, N, 5 + classes], float32; InputError for another shape."""
        wanted = (self.count, 5 + self.classes)
        if output.ndim != 4 or tuple(output.shape[2:]) != wanted:
            raise InputError(
                f"{where}: the detector must return [T, B, {wanted[0]}, {wanted[1]}] for images of "
                f"{self.size[0]} × {self.size[1]} and {self.classes} classes, got {list(output.shape)}"
            )
        return output.float().mean(0)


# Made on the CPU: kept, so that a GPU does not wait for them at every step.
@lru_cache(maxsize=32)
def _places(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    cells, strides, anchors = [], [], []
    # Made in inference mode they could never take part in training.
    with torch.inference_mode(False):
        for scale in grid.scales:
            rows, columns = torch.meshgrid(torch.arange(scale.height), torch.arange(scale.width), indexing="ij")
            cell = torch.stack([columns, rows], -1).flatten(0, 1)
            cells.append(cell.repeat(len(scale.anchors), 1))
            strides.append(torch.full((scale.count, 1), scale.stride))
            anchors.append(torch.tensor(scale.anchors).repeat_interleave(len(cell), 0))
        cell, stride, anchor = (torch.cat(part).to(device, torch.float32) for part in (cells, strides, anchors))
        return cell, stride, anchor
