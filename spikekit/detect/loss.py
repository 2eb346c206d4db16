"""The loss of a detector: which predictions answer for which boxes, and how wrong they are.

After YOLOv5 (Jocher et al. 2020), with the weights of EMS-YOLO (Su et al. 2023). A box is the business of every anchor
whose width and height differ from its own by less than a factor of 4, in the cell of its centre and the two cells
nearest to that. The loss is box·(1 - CIoU) + cls·BCE of the classes, both averaged over the predictions that answer
for a box, + obj·BCE of "there is an object", over all predictions, where the wanted value is the CIoU, or 0. Each is
taken for a scale and summed; the finer scale's object term counts four times, as YOLOv5's does. It is a mean: the
authors multiply it by the batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spikekit.detect.boxes import PADDING, ciou, fault, iou
from spikekit.detect.decode import candidates, check_limits, decode_corners
from spikekit.detect.grid import Grid, Scale
from spikekit.errors import InputError

_BALANCE = (4.0, 1.0, 0.25, 0.06, 0.02)
# A box and a prediction that agree, for the score: PASCAL VOC's rule.
_AGREE = 0.5


class _Matches(NamedTuple):
    """Who answers for what: index among all predictions [B, K], of the box in its sample [K], and whether [B, K]."""

    place: Tensor
    box: Tensor
    real: Tensor


@dataclass(frozen=True)
class DetectionLoss:
    """Called with output [T, B, N, 5 + classes], averaged over time, and boxes [B, M, 5]: see `spikekit.detect.boxes`.

    grid: `Grid.of(net, (width, height))`. box, obj, cls: weights of the three terms. ratio: largest factor between an
    anchor and a box. confidence, overlap: of the boxes that `score` counts, see `detect`. A `Trainer` takes it as loss.
    Raises InputError for a grid of more than five scales, for weights below 0, and when called with a target that does
    not fit the output; on a CUDA device, where looking at values would wait, `check_target` alone looks at them.
    """

    grid: Grid
    box: float = 0.05
    obj: float = 1.0
    cls: float = 0.5
    ratio: float = 4.0
    confidence: float = 0.25
    overlap: float = 0.45

    def __post_init__(self) -> None:
        if len(self.grid.scales) > len(_BALANCE):
            raise InputError(
                f"DetectionLoss: its weights are for {len(_BALANCE)} scales at most, the grid has "
                f"{len(self.grid.scales)}; make a detector of fewer"
            )
        for name, least in (("box", 0), ("obj", 0), ("cls", 0), ("ratio", 1)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"DetectionLoss: {name} must be finite, {least} or more, got {getattr(self, name)!r}")
        check_limits("DetectionLoss", self.confidence, self.overlap)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.stack(list(self.parts(output, target).values())).sum()

    def parts(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The weighted terms "box", "obj" and "cls"; their sum is the loss."""
        raw = self.grid.check(output, "DetectionLoss")
        target = self._paired(target, raw)
        if not target.is_cuda:
            self.check_target(target, "DetectionLoss")
        corners = decode_corners(raw, self.grid)
        total = {name: raw.new_zeros(()) for name in ("box", "obj", "cls")}
        for scale, balance in zip(self.grid.scales, _BALANCE[: len(self.grid.scales)], strict=True):
            found = match(target, scale, self.ratio)
            count = found.real.sum().clamp(min=1)
            wanted = target[:, found.box]
            agree = ciou(corners.gather(1, found.place[..., None].expand(-1, -1, 4)), wanted[..., 1:])
            total["box"] = total["box"] + ((1 - agree) * found.real).sum() / count
            presence = raw[:, scale.start : scale.start + scale.count, 4]
            # Where several boxes meet in a prediction, the one it fits best decides.
            goal = torch.zeros_like(presence).scatter_reduce(
                1, found.place - scale.start, agree.detach().clamp(min=0) * found.real, "amax"
            )
            total["obj"] = total["obj"] + balance * F.binary_cross_entropy_with_logits(presence, goal)
            if self.grid.classes > 1:
                logits = raw[..., 5:].gather(1, found.place[..., None].expand(-1, -1, self.grid.classes))
                kinds = F.one_hot(wanted[..., 0].clamp(min=0).long(), self.grid.classes).to(logits.dtype)
                wrong = F.binary_cross_entropy_with_logits(logits, kinds, reduction="none").mean(-1)
                total["cls"] = total["cls"] + (wrong * found.real).sum() / count
        return {name: getattr(self, name) * value for name, value in total.items()}

    def check_target(self, target: Tensor, where: str) -> Tensor:
        """The target as it is; InputError, naming `where`, unless it is boxes [B, M, 5] of known classes, in pixels.

        Rows of class -1 are filling. A box may reach over the picture's edge, not lie outside it.
        """
        _check_shape(target, where)
        if not torch.isfinite(target).all():
            raise InputError(f"{where}: y holds NaN or Inf")
        if target.numel() and int(target[..., 0].max()) >= self.grid.classes:
            raise InputError(
                f"{where}: y holds the class {int(target[..., 0].max())}, the detector has 0 to {self.grid.classes - 1}"
            )
        real = target[..., 0] != PADDING
        boxes = target[real].to(torch.float32)
        if (found := fault(boxes) or self._outside(boxes)) is not None:
            row, what = found
            sample, box = real.nonzero()[row].tolist()
            raise InputError(f"{where}: y, sample {sample}, box {box}, {boxes[row].tolist()}, {what}")
        if len(boxes) and bool((boxes[:, 1:] <= 1).all()):
            raise InputError(
                f"{where}: all boxes of y lie in the first pixel, as parts of the picture's sides do; multiply x by "
                f"{self.grid.size[0]} and y by {self.grid.size[1]}"
            )
        return target

    def _outside(self, boxes: Tensor) -> tuple[int, str] | None:
        _, x0, y0, x1, y1 = boxes.T
        width, height = self.grid.size
        wrong = (x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height)
        if not bool(wrong.any()):
            return None
        return int(wrong.nonzero()[0]), f"lies outside the picture of {width} × {height} pixels; see clip_boxes"

    def _paired(self, target: Tensor, raw: Tensor) -> Tensor:
        """The target in float32; InputError unless it is [B, M, 5], for as many samples and where the output is."""
        _check_shape(target, "DetectionLoss")
        if len(target) != len(raw) or target.device != raw.device:
            raise InputError(
                f"DetectionLoss: output holds B = {len(raw)} samples on {raw.device}, target {len(target)} on "
                f"{target.device}; give both alike"
            )
        return target.to(torch.float32)

    def check_output(self, output: Tensor, where: str) -> None:
        """InputError, naming `where`, unless output is [T, B, N, 5 + classes] of this grid."""
        self.grid.check(output, where)

    @torch.no_grad()
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """F1 of each sample [B], 2·right / (boxes drawn + boxes there): 1 where neither is.

        From the best score down, a box drawn takes the true one of its class that it overlaps most, by half or more,
        and that none before it took: that is right. What a Trainer calls accuracy is the mean of this: quick, and in
        [0, 1]. Publish mean average precision.
        """
        target = self._paired(target, self.grid.check(output, "DetectionLoss"))
        corners, label, _, stay = candidates(output, self.grid, self.confidence, self.overlap, most=100)
        free = target[..., 0] >= 0
        drawn, boxes = stay.sum(1), free.sum(1)
        rivals = (target[..., 0, None] == label[:, None]) & stay[:, None]
        fits = torch.where(rivals, iou(target[:, :, None, 1:], corners[:, None]), 0.0)
        right = torch.zeros_like(drawn)
        for own in fits.unbind(2) if target.shape[1] else ():
            best, which = (own * free).max(1)
            right += best >= _AGREE
            free = free.scatter(1, which[:, None], free.gather(1, which[:, None]) & (best < _AGREE)[:, None])
        return torch.where(drawn + boxes > 0, 2 * right / (drawn + boxes).clamp(min=1), 1.0)


def _check_shape(target: Tensor, where: str) -> None:
    if not isinstance(target, Tensor):
        raise InputError(f"{where}: y must be boxes [B, M, 5], got {type(target).__name__}; see pad_boxes")
    if target.ndim != 3 or target.shape[2] != 5 or not target.is_floating_point():
        raise InputError(f"{where}: y must be boxes, floating point [B, M, 5], got {target.dtype} {list(target.shape)}")


@torch.no_grad()
def match(target: Tensor, scale: Scale, ratio: float) -> _Matches:
    """Which predictions of a scale answer for the boxes [B, M, 5].

    K = M · anchors · 3 candidates: the cell of the centre, and the nearer neighbour in x and in y, where they exist.
    """
    batch, most, _ = target.shape
    anchors = torch.tensor(scale.anchors, device=target.device)
    size = target[..., 3:] - target[..., 1:3]
    factor = size[:, :, None] / anchors
    close = torch.maximum(factor, 1 / factor.clamp(min=1e-9)).amax(-1) < ratio
    centre = (target[..., 1:3] + target[..., 3:]) / 2 / scale.stride
    limit = torch.tensor([scale.width, scale.height], device=target.device)
    own = centre.floor()
    towards = torch.where(centre - own < 0.5, -1.0, 1.0)
    steps = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], device=target.device)
    cell = own[:, :, None] + steps * towards[:, :, None]
    inside = ((cell >= 0) & (cell < limit)).all(-1)
    real = (target[..., 0] >= 0)[..., None, None] & close[..., None] & inside[:, :, None]
    column, row = torch.minimum(cell.clamp(min=0), limit - 1).long().unbind(-1)
    flat = (row * scale.width + column)[:, :, None]
    anchor = torch.arange(len(anchors), device=target.device)[:, None] * (scale.width * scale.height)
    place = (flat + anchor).expand(batch, most, len(anchors), 3) + scale.start
    box = torch.arange(most, device=target.device).repeat_interleave(len(anchors) * 3)
    return _Matches(place.flatten(1), box, real.flatten(1).to(torch.float32))
