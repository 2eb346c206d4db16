"""Augmentation of frames that moves their boxes along: mosaic, flip, scale and shift, colour.

All draw from torch's generator, which a Trainer seeds and restores. Frames are [T, C, H, W] and every step of a sample
is changed alike; boxes are [n, 5] as in `spikekit.detect.boxes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from spikekit.datasets.box_dataset import BoxSample, BoxTransform
from spikekit.detect.boxes import clip_boxes
from spikekit.errors import InputError


class AugmentedBoxes(Dataset[BoxSample]):
    """Another dataset's samples, each a mosaic of four with probability `mosaic`, then changed by `transform`."""

    def __init__(self, source: Dataset[BoxSample], transform: BoxTransform | None = None, mosaic: float = 0.0) -> None:
        _check_probability(mosaic, "mosaic")
        self.source, self.transform, self.mosaic = source, transform, mosaic

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> BoxSample:
        frames, boxes = self.source[index]
        steps = len(frames)
        frames = _once(frames)
        if self.mosaic and float(torch.rand(())) < self.mosaic:
            others = [self.source[i] for i in torch.randint(len(self), (3,)).tolist()]
            frames, boxes = mosaic([(frames, boxes), *((_once(other), found) for other, found in others)])
        if self.transform is not None:
            frames, boxes = self.transform(frames, boxes)
        return frames.expand(steps, *frames.shape[1:]), boxes


def _once(frames: Tensor) -> Tensor:
    """A picture shown for T steps, as `BoxDataset` expands it, is changed once: [1, C, H, W]; events as they are."""
    return frames[:1] if frames.stride(0) == 0 else frames


def mosaic(samples: Sequence[BoxSample], centre: tuple[int, int] | None = None) -> BoxSample:
    """Put parts of four samples of one size together around a point.

    Sample 0 shows its lower right part above and left of the point, 1 its lower left above and right, 2 its upper right
    below and left, 3 its upper left below and right: each is shifted, none is scaled. centre: (x, y), drawn from the
    middle half of the frame without. Boxes are cut at the seams; see `clip_boxes` for those left out. Raises InputError
    unless there are four samples of one shape.
    """
    if len(samples) != 4 or len({frames.shape for frames, _ in samples}) != 1:
        raise InputError(f"mosaic takes 4 samples of one shape, got {[list(frames.shape) for frames, _ in samples]}")
    height, width = samples[0][0].shape[-2:]
    if centre is None:
        centre = (_between(width // 4, width - width // 4), _between(height // 4, height - height // 4))
    x, y = centre
    canvas, kept = torch.empty_like(samples[0][0]), []
    places = ((0, x, 0, y), (x, width, 0, y), (0, x, y, height), (x, width, y, height))
    for number, ((frames, boxes), (left, right, top, bottom)) in enumerate(zip(samples, places, strict=True)):
        w, h = right - left, bottom - top
        # The corner at the point is the sample's own opposite corner.
        dx, dy = (width - w if number % 2 == 0 else 0), (height - h if number < 2 else 0)
        canvas[..., top:bottom, left:right] = frames[..., dy : dy + h, dx : dx + w]
        inside = clip_boxes(_shifted(boxes, -dx, -dy), w, h)
        kept.append(_shifted(inside, left, top))
    return canvas, torch.cat(kept)


@dataclass(frozen=True)
class BoxFlip:
    """Mirror left and right with probability `p`, and upside down with probability `vertical`."""

    p: float = 0.5
    vertical: float = 0.0

    def __post_init__(self) -> None:
        _check_probability(self.p, "BoxFlip: p")
        _check_probability(self.vertical, "BoxFlip: vertical")

    def __call__(self, frames: Tensor, boxes: Tensor) -> BoxSample:
        if float(torch.rand(())) < self.p:
            frames, boxes = _mirrored(frames, boxes, 0)
        # Without a draw where there is nothing to decide, so that runs of before come out the same.
        if self.vertical and float(torch.rand(())) < self.vertical:
            frames, boxes = _mirrored(frames, boxes, 1)
        return frames, boxes


def _mirrored(frames: Tensor, boxes: Tensor, axis: int) -> BoxSample:
    """Axis 0: x, 1: y."""
    turned = boxes.clone()
    side = frames.shape[-1 - axis]
    turned[:, 1 + axis], turned[:, 3 + axis] = side - boxes[:, 3 + axis], side - boxes[:, 1 + axis]
    return frames.flip(-1 - axis), turned


@dataclass(frozen=True)
class BoxScale:
    """Scale by a factor within 1 ± scale about the middle, then shift by up to ± shift of each side.

    nearest=True takes the nearest pixel, so that events stay events; False mixes neighbours, for photographs. What
    comes in from outside is 0.
    """

    scale: float = 0.5
    shift: float = 0.1
    nearest: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.scale < 1:
            raise InputError(f"BoxScale: scale must be 0 or more and below 1, got {self.scale!r}")
        _check_probability(self.shift, "BoxScale: shift")

    def __call__(self, frames: Tensor, boxes: Tensor) -> BoxSample:
        factor = 1 + self.scale * (2 * float(torch.rand(())) - 1)
        right, down = (self.shift * (2 * torch.rand(2) - 1)).tolist()
        return scaled(frames, boxes, factor, right, down, nearest=self.nearest)


def scaled(
    frames: Tensor, boxes: Tensor, factor: float, right: float, down: float, *, nearest: bool = True
) -> BoxSample:
    """Scale by `factor` about the middle, then shift by `right` widths and `down` heights."""
    height, width = frames.shape[-2:]
    # affine_grid asks where each place of the result comes from, in halves of the frame.
    theta = torch.tensor([[1 / factor, 0, -2 * right / factor], [0, 1 / factor, -2 * down / factor]])
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False).expand(len(frames), -1, -1, -1)
    moved = F.grid_sample(frames, grid, "nearest" if nearest else "bilinear", align_corners=False)
    size = torch.tensor([width, height, width, height])
    offset = torch.tensor([right, down, right, down])
    corners = (boxes[:, 1:] - size / 2) * factor + size / 2 + offset * size
    return moved, clip_boxes(torch.cat([boxes[:, :1], corners], 1), width, height)


@dataclass(frozen=True)
class BoxColour:
    """Change hue, saturation and value of images in [0, 1] with three channels by factors drawn within 1 ± each.

    hue: in turns of the colour wheel instead. Boxes stay where they are.
    """

    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4

    def __post_init__(self) -> None:
        for name in ("hue", "saturation", "value"):
            _check_probability(getattr(self, name), f"BoxColour: {name}")

    def __call__(self, frames: Tensor, boxes: Tensor) -> BoxSample:
        if frames.shape[1] != 3:
            raise InputError(f"BoxColour: images need 3 channels, got {frames.shape[1]}; leave it out for events")
        turn, saturation, value = (2 * torch.rand(3) - 1).tolist()
        h, s, v = rgb_to_hsv(frames)
        h, s = h + self.hue * turn, s * (1 + self.saturation * saturation)
        return hsv_to_rgb(h, s.clamp(0, 1), (v * (1 + self.value * value)).clamp(0, 1)), boxes


def rgb_to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image [..., 3, H, W] in [0, 1] -> hue in turns, saturation and value, each [..., H, W]."""
    red, green, blue = image.unbind(-3)
    most, least = image.amax(-3), image.amin(-3)
    spread = most - least
    safe = spread.clamp(min=1e-12)
    sector = torch.where(most == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = torch.where(most == red, (green - blue) / safe, sector)
    return sector / 6 % 1, spread / most.clamp(min=1e-12), most


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The inverse of `rgb_to_hsv`: -> [..., 3, H, W]."""
    parts = []
    for turn in (5, 3, 1):
        k = (turn + hue * 6) % 6
        parts.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(parts, -3)


@dataclass(frozen=True)
class BoxCompose:
    """Transforms one after the other."""

    transforms: tuple[BoxTransform, ...]

    def __call__(self, frames: Tensor, boxes: Tensor) -> BoxSample:
        for transform in self.transforms:
            frames, boxes = transform(frames, boxes)
        return frames, boxes


def _shifted(boxes: Tensor, x: int, y: int) -> Tensor:
    return boxes + torch.tensor([0.0, x, y, x, y])


def _between(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def _check_probability(value: float, name: str) -> None:
    if not (isinstance(value, int | float) and 0 <= value <= 1):
        raise InputError(f"{name} must be between 0 and 1, got {value!r}")
