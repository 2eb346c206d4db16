"""Boxes on the picture or the events that they were found in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from spikekit.errors import InputError, require
from spikekit.viz.activity import events, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def detections(
    frames: Tensor,
    boxes: Tensor,
    ax: Axes | None = None,
    *,
    classes: Sequence[str] | None = None,
    truth: Tensor | None = None,
) -> Axes:
    """Draw boxes [n, 5] or [n, 6], (class, x0, y0, x1, y1) and the score, on the frames [T, C, H, W] of one sample.

    Two channels are events (summed over time, as `events` draws them), three a picture in [0, 1], of which the first
    step is shown. classes: names to write instead of numbers. truth: boxes [m, 5], drawn thin and green below.
    """
    if frames.ndim != 4 or frames.shape[1] not in (2, 3):
        raise InputError(f"viz.detections: frames of one sample [T, 2 or 3, H, W] expected, got {list(frames.shape)}")
    if boxes.ndim != 2 or boxes.shape[1] not in (5, 6):
        raise InputError(f"viz.detections: boxes [n, 5] or [n, 6] expected, got {list(boxes.shape)}")
    ax = ax or new_axes()
    if frames.shape[1] == 2:
        events(frames, ax)
    else:
        ax.imshow(frames[0].permute(1, 2, 0).clamp(0, 1).cpu().float().numpy(), interpolation="nearest")
        ax.set(xlabel="x (pixels)", ylabel="y (pixels)")
    if truth is not None:
        for row in truth.tolist():
            _outline(ax, row, "#2ca02c", 1.0, "")
    for row in boxes.tolist():
        name = str(int(row[0])) if classes is None else classes[int(row[0])]
        _outline(ax, row, f"C{int(row[0]) % 10}", 1.8, name if len(row) == 5 else f"{name} {row[5]:.2f}")
    return ax


def _outline(ax: Axes, row: list[float], colour: str, width: float, text: str) -> None:
    _, x0, y0, x1, y1 = row[:5]
    # imshow puts the middle of pixel 0 at 0, where boxes have its left edge.
    x, y = x0 - 0.5, y0 - 0.5
    rectangle = require("matplotlib.patches", "viz").Rectangle
    ax.add_patch(rectangle((x, y), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=width))
    if text:
        plain = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
        ax.text(x, y, text, color=colour, fontsize=7, va="bottom", bbox=plain, clip_on=True)
