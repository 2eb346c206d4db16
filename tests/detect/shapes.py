"""A small detector's shape, and outputs that say given boxes."""

from __future__ import annotations

import torch


class Shape:
    """What a grid needs of a detector."""

    strides = (16, 32)

    def __init__(self, classes=3):
        self.classes = classes
        self.anchors = torch.tensor([[[10.0, 14], [23, 27], [37, 58]], [[81, 82], [60, 40], [100, 30]]])


def inverse(boxes, places, grid, sure=12.0):
    """Output [1, B, N, 5 + classes] that says box i of sample b at place `places[b][i]`, and nothing elsewhere."""
    raw = torch.full((len(boxes), grid.count, 5 + grid.classes), -sure)
    cells, strides, anchors = grid.places(raw)
    for sample, (rows, at) in enumerate(zip(boxes, places, strict=True)):
        for (label, *corners), place in zip(rows.tolist(), at, strict=True):
            corners = torch.tensor(corners)
            centre, size = (corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]
            xy = (centre / strides[place] - cells[place] + 0.5) / 2
            wh = (size / anchors[place]).sqrt() / 2
            raw[sample, place, :4] = torch.logit(torch.cat([xy, wh]), eps=1e-6)
            raw[sample, place, 4] = raw[sample, place, 5 + int(label)] = sure
    return raw[None]
