"""One recording seen three ways: its events, the spikes of a layer, the membranes of a readout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from spikekit.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes() -> Axes:
    """Axes of a new figure of their own."""
    axes: Axes = require("matplotlib.figure", "viz").Figure(layout="constrained").subplots()
    return axes


def _need(tensor: Tensor, ndim: int, what: str) -> None:
    if tensor.ndim != ndim:
        raise InputError(
            f"viz: {what} of one recording expected, got shape {tuple(tensor.shape)}; index the batch first"
        )


def events(frames: Tensor, ax: Axes | None = None) -> Axes:
    """Frames [T, 2, H, W] of one recording as one image: polarity 1 red, polarity 0 blue, summed over time."""
    _need(frames, 4, "frames [T, 2, H, W]")
    ax = ax or new_axes()
    off, on = (frames[:, p].sum(0).cpu().float().numpy() for p in (0, 1))
    most = max(float(on.max()), float(off.max()), 1.0)
    shade = 1 - np.stack([off, np.maximum(on, off), on], axis=-1) / most
    ax.imshow(np.clip(shade, 0, 1), interpolation="nearest")
    ax.set(xlabel="x (pixels)", ylabel="y (pixels)")
    return ax


def raster(spikes: Tensor, ax: Axes | None = None) -> Axes:
    """Spikes [T, ...] of one recording: time step along x, neuron (flattened) along y, a dark cell for a spike.

    A graded spike is dark whatever number it carries.

    Where several neurons share a row of pixels, the shade is the part of them that fires.
    """
    ax = ax or new_axes()
    flat = (spikes.flatten(1) != 0).T.cpu().float().numpy()
    ax.imshow(flat, aspect="auto", origin="lower", cmap="binary", vmin=0, vmax=1, interpolation="antialiased")
    ax.set(xlabel="time step", ylabel="neuron")
    return ax


def membranes(trace: Tensor, ax: Axes | None = None, *, labels: Sequence[str] | None = None) -> Axes:
    """Membranes [T, n] of one recording as lines; the one that ends highest is drawn bold."""
    _need(trace, 2, "membranes [T, n]")
    ax = ax or new_axes()
    values = trace.detach().cpu().float().numpy()
    best = int(values.mean(0).argmax())
    for i, line in enumerate(values.T):
        name = labels[i] if labels is not None else str(i)
        ax.plot(line, label=name, linewidth=2.5 if i == best else 0.9, alpha=1 if i == best else 0.7)
    ax.set(xlabel="time step", ylabel="membrane")
    if values.shape[1] <= 12:
        ax.legend(ncols=2, fontsize="x-small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return ax
