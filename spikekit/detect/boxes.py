"""Boxes as a target: float32 [n, 5], a row (class, x0, y0, x1, y1) in pixels, x to the right and y down.

A box covers x0 <= x < x1 and y0 <= y < y1, pixel 3 reaching from 3 to 4. A batch is [B, M, 5], M the most boxes of any
sample; rows of class -1 fill it up and are no boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from spikekit.errors import InputError

PADDING: Final = -1
"""The class of a row that is no box."""


def check_boxes(boxes: Tensor, where: str) -> Tensor:
    """Return float32 boxes [n, 5], or raise InputError, naming `where`, the row and what is wrong with it."""
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise InputError(f"{where}: boxes must be [n, 5] of (class, x0, y0, x1, y1), got {list(boxes.shape)}")
    boxes = boxes.to(torch.float32)
    if (found := fault(boxes)) is not None:
        row, what = found
        raise InputError(f"{where}: box {row}, {boxes[row].tolist()}, {what}")
    return boxes


def fault(boxes: Tensor) -> tuple[int, str] | None:
    """The first row of boxes [n, 5] that is no box, and why; None where all are."""
    label, x0, y0, x1, y1 = boxes.T
    for wrong, what in (
        (~torch.isfinite(boxes).all(1), "is not finite"),
        ((label < 0) | (label != label.round()), "has a class that is no whole number from 0"),
        ((x1 <= x0) | (y1 <= y0), "has no area: x1 must be above x0 and y1 above y0"),
    ):
        if bool(wrong.any()):
            return int(wrong.nonzero()[0]), what
    return None


def pad_boxes(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes [n_i, 5] of B samples -> [B, max n, 5], filled with rows of class -1; at least one row.

    Raises InputError for other shapes, naming the sample.
    """
    for i, found in enumerate(boxes):
        if found.ndim != 2 or found.shape[1] != 5:
            score = "; leave out the score: found[:, :5]" if found.ndim == 2 and found.shape[1] == 6 else ""
            raise InputError(
                f"pad_boxes: sample {i} must be [n, 5] of (class, x0, y0, x1, y1), got {list(found.shape)}{score}"
            )
    most = max((len(b) for b in boxes), default=0)
    batch = torch.zeros(len(boxes), max(most, 1), 5)
    batch[..., 0] = PADDING
    for row, found in zip(batch, boxes, strict=True):
        row[: len(found)] = found
    return batch


def unpad_boxes(batch: Tensor) -> list[Tensor]:
    """The inverse of `pad_boxes`: the boxes [n_i, 5] of each sample of [B, M, 5]."""
    return [rows[rows[:, 0] >= 0] for rows in batch]


def clip_boxes(boxes: Tensor, width: int, height: int, visible: float = 0.25, least: float = 2.0) -> Tensor:
    """Cut boxes [n, 5] at the edges of an image; leave out those of which less than `visible` of the area stays.

    least: pixels that each side must still have.
    """
    cut = boxes.clone()
    cut[:, 1::2] = cut[:, 1::2].clamp(0, width)
    cut[:, 2::2] = cut[:, 2::2].clamp(0, height)
    w, h = cut[:, 3] - cut[:, 1], cut[:, 4] - cut[:, 2]
    before = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    return cut[(w >= least) & (h >= least) & (w * h >= visible * before)]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of corners a [..., 4] and b [..., 4], broadcast against each other -> [...]."""
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = _area(a) + _area(b) - inter
    return inter / union.clamp(min=1e-9)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of corners a [..., 4] (predicted) and b [..., 4] -> [...]; 1 where they agree, as low as -1.5.

    IoU - d²/c² - αv: d between the centres, c the diagonal of the smallest box around both, v = 4/π² (difference of
    atan(width / height))², α = v / (1 - IoU + v), which has no gradient. Zheng et al. 2020, AAAI, arXiv 1911.08287.
    """
    overlap = iou(a, b)
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    distance = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)
    wa, ha = (a[..., 2:] - a[..., :2]).unbind(-1)
    wb, hb = (b[..., 2:] - b[..., :2]).unbind(-1)
    v = 4 / math.pi**2 * (torch.atan2(wb, hb) - torch.atan2(wa, ha)).square()
    alpha = (v / (1 - overlap + v).clamp(min=1e-9)).detach()
    return overlap - distance / around.square().sum(-1).clamp(min=1e-9) - alpha * v


def _area(corners: Tensor) -> Tensor:
    return (corners[..., 2:] - corners[..., :2]).prod(-1)
