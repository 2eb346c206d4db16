"""A detector as the export reads it: all raw predictions summed up over time by one readout."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from spikekit.detect.grid import Grid
from spikekit.errors import InputError
from spikekit.neurons import LI
from spikekit.sequential import fold_time


class ChipDetector(nn.Module):
    """`net`, an EMS-YOLO, with its detection layers flattened into one LI, which keeps all that it hears.

    ```python
    on_chip = sk.detect.ChipDetector(net.eval())
    chip = sk.export.to_loihi(on_chip, calibration)
    boxes = sk.detect.detect(on_chip.raw(chip.simulate(x), grid), grid)
    ```
    x [T, B, C, H, W] to the sums of raw predictions up to each step [T, B, M], M = N · (5 + classes).
    """

    temporal: ClassVar[bool] = True

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(net, "by_scale", None)):
            raise InputError(f"ChipDetector: net must be an EMSYOLO, as ems_res10() makes it, got {type(net).__name__}")
        self.net, self.flat, self.sums = net, fold_time(nn.Flatten()), LI(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C, H, W] -> [T, B, M]."""
        y: Tensor = self.sums(torch.cat([self.flat(raw) for raw in self.net.by_scale(x)], 2))  # type: ignore[operator]
        return y

    def raw(self, sums: Tensor, grid: Grid) -> Tensor:
        """The mean over time of raw predictions [1, B, N, 5 + classes], for `detect`, from sums [T, B, M].

        sums: what `forward`, or `LoihiNet.simulate`, gives. Raises InputError for those of another grid.
        """
        each = 5 + grid.classes
        if sums.ndim != 3 or sums.shape[2] != grid.count * each or not len(sums):
            raise InputError(
                f"ChipDetector: sums must be [T, B, {grid.count * each}] for images of {grid.size[0]} × "
                f"{grid.size[1]}, got {list(sums.shape)}"
            )
        parts = (sums[-1] / len(sums)).split([scale.count * each for scale in grid.scales], 1)
        placed = [
            part.unflatten(1, (len(scale.anchors), each, scale.height * scale.width)).movedim(2, 3).flatten(1, 2)
            for part, scale in zip(parts, grid.scales, strict=True)
        ]
        return torch.cat(placed, 1)[None]
