"""Detection in a stream: steps come one after the other, the neurons go on from where they were."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.detect.decode import check_limits, detect
from spikekit.detect.grid import Grid
from spikekit.errors import InputError
from spikekit.state import run


class Stream:
    """A detector whose state is carried from call to call, for recordings that have no end.

    ```python
    stream = Stream(net, Grid.of(net, (128, 128)), steps=4)
    for x in frames:  # [t, B, C, H, W], as many steps at a time as there are
        boxes = stream(x)
    ```
    The boxes are those of the last `steps` outputs, averaged; before there are so many, of those there are. Fed from
    rest with `steps` steps, in pieces or at once, it finds what one call of the network would. A network in
    train mode is refused. Other arguments: see `detect`.
    """

    def __init__(
        self, net: nn.Module, grid: Grid, steps: int = 4, confidence: float = 0.25, overlap: float = 0.45
    ) -> None:
        if steps < 1:
            raise InputError(f"Stream: steps must be 1 or more, got {steps}")
        check_limits("Stream", confidence, overlap)
        self.net, self.grid, self.confidence, self.overlap = net, grid, confidence, overlap
        self._last: deque[Tensor] = deque(maxlen=steps)
        self._state: dict[str, Any] | None = None

    def reset(self) -> None:
        """Back to rest: the next call begins another recording."""
        self._last.clear()
        self._state = None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        """Steps x [t, B, C, H, W] -> boxes [n, 6] of each sample now."""
        if self.net.training:
            raise InputError(
                "Stream: the network is in train mode, its norms would learn from the stream; call net.eval()"
            )
        output, self._state = run(self.net, x, self._state)
        self._last.extend(output)
        return detect(torch.stack(list(self._last)), self.grid, self.confidence, self.overlap)
