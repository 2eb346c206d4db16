"""A whole network on one recording: the events, the spikes of every layer, the readout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from spikekit.errors import require
from spikekit.viz.activity import events, membranes, raster

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overview(frames: Tensor, spikes: Mapping[str, Tensor], readout: Tensor, title: str = "") -> Figure:
    """One row of panels for one recording.

    frames [T, 2, H, W]; spikes: name of a layer -> [T, ...]; readout [T, n]. Returns a figure; save it with
    `figure.savefig(path)`.
    """
    figure: Figure = require("matplotlib.figure", "viz").Figure(
        figsize=(3.4 * (len(spikes) + 2) + 0.8, 3.6), layout="constrained"
    )
    axes = figure.subplots(1, len(spikes) + 2)
    events(frames, axes[0]).set_title("events")
    for ax, (name, layer) in zip(axes[1:-1], spikes.items(), strict=True):
        rate = float(layer.float().mean())
        raster(layer, ax).set_title(f"{name}: {rate:.1%} of neurons a step")
    membranes(readout, axes[-1]).set_title("readout membrane")
    if title:
        figure.suptitle(title)
    return figure
