"""From raw predictions to boxes: decoding, and suppression of boxes that say the same again."""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.detect.boxes import iou
from spikekit.detect.grid import Grid
from spikekit.errors import InputError


def decode_corners(raw: Tensor, grid: Grid) -> Tensor:
    """Corners (x0, y0, x1, y1) in pixels [B, N, 4] of raw predictions [B, N, 5 + classes], as `grid` defines them."""
    cell, stride, anchor = grid.places(raw)
    centre = (2 * raw[..., :2].sigmoid() - 0.5 + cell) * stride
    half = (2 * raw[..., 2:4].sigmoid()).square() * anchor / 2
    return torch.cat([centre - half, centre + half], -1)


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, overlap: float) -> Tensor:
    """Greedy non-maximum suppression, one batch at a time: which boxes stay, bool [B, K].

    boxes [B, K, 4], scores [B, K] in falling order, classes [B, K]. From the highest score down, a box that stays
    removes those of its class that overlap it by more than `overlap` (intersection over union). Scores of 0 never stay.
    """
    count = boxes.shape[1]
    later = torch.ones(count, count, dtype=torch.bool, device=boxes.device).triu(1)
    rivals = (iou(boxes[:, :, None], boxes[:, None]) > overlap) & (classes[:, :, None] == classes[:, None]) & later
    stay = scores > 0
    for i in range(count):
        stay = stay & ~(rivals[:, i] & stay[:, i : i + 1])
    return stay


def check_limits(where: str, confidence: float, overlap: float) -> None:
    """InputError, naming `where`, unless both are between 0 and 1."""
    for name, value in (("confidence", confidence), ("overlap", overlap)):
        if not 0 <= value <= 1:
            raise InputError(f"{where}: {name} must be between 0 and 1, got {value!r}")


@torch.no_grad()
def candidates(
    output: Tensor, grid: Grid, confidence: float, overlap: float, most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The `most` best pairs of place and class a sample: corners [B, K, 4], classes, scores, and which stay [B, K]."""
    raw = grid.check(output, "detect")
    corners = decode_corners(raw, grid)
    scores = raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()
    best, which = scores.flatten(1).topk(min(most, scores[0].numel()), 1)
    place, label = which // grid.classes, which % grid.classes
    chosen = corners.gather(1, place[..., None].expand(-1, -1, 4))
    best = best * (best > confidence)
    return chosen, label, best, suppress(chosen, best, label, overlap)


def detect(
    output: Tensor, grid: Grid, confidence: float = 0.25, overlap: float = 0.45, most: int = 300
) -> list[Tensor]:
    """Boxes of each sample from output [T, B, N, 5 + classes]: float32 [n, 6], (class, x0, y0, x1, y1, score).

    In falling order of the score, object times class, averaged over time before the sigmoids. confidence: lowest score.
    overlap: see `suppress`. most: candidates before suppression. For mean average precision take confidence=0.001.
    Boxes are cut at the edge of the image. Raises InputError for confidence or overlap outside 0 to 1, most below 1,
    and output that is not finite.
    """
    check_limits("detect", confidence, overlap)
    if most < 1:
        raise InputError(f"detect: most must be 1 or more, got {most!r}")
    if not bool(torch.isfinite(output).all()):
        raise InputError("detect: output holds NaN or Inf; look for them in the network's weights and its input")
    corners, label, score, stay = candidates(output, grid, confidence, overlap, most)
    limit = torch.tensor([*grid.size, *grid.size], device=corners.device, dtype=corners.dtype)
    corners = torch.minimum(corners.clamp(min=0), limit)
    rows = torch.cat([label[..., None].to(corners.dtype), corners, score[..., None]], -1)
    return [row[kept].cpu() for row, kept in zip(rows, stay, strict=True)]
