"""Mean average precision, by faster-coco-eval: the COCO evaluation, in C++, without pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikekit.detect.boxes import PADDING, check_boxes
from spikekit.errors import InputError, require


@dataclass(frozen=True)
class Precision:
    """What COCO's evaluation says, in [0, 1].

    map50: mean average precision where half an overlap is enough; map: the mean over overlaps .50, .55, ..., .95.
    classes: average precision at .50 of each class that has a box. images, boxes: how many were judged.
    """

    map50: float
    map: float
    classes: dict[str, float]
    images: int
    boxes: int


def average_precision(found: Sequence[Tensor], truth: Sequence[Tensor], classes: Sequence[str]) -> Precision:
    """Judge boxes found [n, 6] (class, x0, y0, x1, y1, score) by the true ones [m, 5], a pair a sample.

    At most 100 boxes a sample count, as in COCO. Needs the extra "detect". Raises InputError for lists of unequal
    length, where there is no true box, for rows that are no boxes of `classes` (padding too: see `unpad_boxes`), and
    for no classes or two of one name.
    """
    if not classes or isinstance(classes, str) or len(set(classes)) < len(classes):
        raise InputError(f"average_precision: classes must be names, one or more, each once; got {classes!r}")
    if len(found) != len(truth):
        raise InputError(f"average_precision: {len(found)} samples with boxes found, {len(truth)} with true ones")
    if not sum(map(len, truth)):
        raise InputError("average_precision: there is no true box to find")
    for sample, (drawn, there) in enumerate(zip(found, truth, strict=True)):
        _check(drawn, there, len(classes), sample)
    tool = require("faster_coco_eval", "detect")
    images = [{"id": i + 1, "width": 1, "height": 1} for i in range(len(truth))]
    kinds = [{"id": i, "name": name} for i, name in enumerate(classes)]
    wanted = [{"id": number, **row, "iscrowd": 0} for number, row in enumerate(_rows(truth, scored=False), start=1)]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = tool.COCO({"images": images, "annotations": wanted, "categories": kinds, "info": {}})
        rows = _rows(found, scored=True)
        if not rows:
            return Precision(0.0, 0.0, _nothing(truth, classes), len(truth), len(wanted))
        judge = tool.COCOeval_faster(ground, ground.loadRes(rows), iouType="bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    # Overlap, recall, class, area, most boxes a sample; -1 where a class has no true box.
    precision = np.asarray(judge.eval["precision"])[0, :, :, 0, -1].mean(0)
    each = {name: float(value) for name, value in zip(classes, precision, strict=True) if value >= 0}
    return Precision(float(judge.stats[1]), float(judge.stats[0]), each, len(truth), len(wanted))


def _check(found: Tensor, truth: Tensor, classes: int, sample: int) -> None:
    if found.ndim != 2 or found.shape[1] != 6:
        raise InputError(
            f"average_precision: boxes found must be [n, 6] of (class, x0, y0, x1, y1, score), as detect gives them, "
            f"got {list(found.shape)} in sample {sample}; found comes first, then truth"
        )
    if truth.ndim == 2 and bool((truth[:, 0] == PADDING).any()):
        raise InputError(f"average_precision: sample {sample} of truth has rows of padding; take unpad_boxes first")
    check_boxes(truth, f"average_precision: truth, sample {sample}")
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"average_precision: the boxes found in sample {sample} hold NaN or Inf")
    for name, label in (("found", found[:, 0]), ("truth", truth[:, 0])):
        wrong = label[(label < 0) | (label >= classes) | (label != label.round())]
        if len(wrong):
            raise InputError(
                f"average_precision: {name}, sample {sample}, has the class {float(wrong[0]):g}; "
                f"classes names 0 to {classes - 1}"
            )


def _rows(boxes: Sequence[Tensor], *, scored: bool) -> list[dict[str, Any]]:
    rows = []
    for image, sample in enumerate(boxes, start=1):
        for label, x0, y0, x1, y1, *score in sample.tolist():
            row = {"image_id": image, "category_id": int(label), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            row |= {"score": score[0]} if scored else {}
            rows.append(row | {"area": (x1 - x0) * (y1 - y0)})
    return rows


def _nothing(truth: Sequence[Tensor], classes: Sequence[str]) -> dict[str, float]:
    present = {int(row[0]) for sample in truth for row in sample.tolist()}
    return {name: 0.0 for i, name in enumerate(classes) if i in present}
