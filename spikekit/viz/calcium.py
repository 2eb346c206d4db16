"""Astrocytes over a text: calcium of several time scales, and the spikes of the neurons that it modulates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from spikekit.errors import InputError, require
from spikekit.viz.activity import raster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# White space that could not be seen on an axis.
_SEEN = {" ": "␣", "\n": "↵", "\t": "⇥"}


def calcium(
    traces: Tensor, timescales: Tensor, spikes: Tensor, steps: Sequence[str], *, lines: int = 5, title: str = ""
) -> Figure:
    """Calcium over the steps of a text above the spikes of the same steps; one recording.

    traces: calcium [T, n]. timescales: of each trace, in steps, [n]. spikes: [T, ...], drawn as a raster. steps: what
    was read at each of the T steps, written along the axis. lines: of so many ranges of time scales, equal in
    logarithm, the trace that varies most is drawn. Returns a figure; save it with `figure.savefig(path)`. Raises
    InputError where the shapes do not fit.
    """
    if traces.ndim != 2 or timescales.shape != traces.shape[1:] or not traces.numel():
        raise InputError(
            "viz.calcium: traces must be [T, n] and timescales [n], got "
            f"{list(traces.shape)} and {list(timescales.shape)}; index the batch first"
        )
    if spikes.ndim < 2 or not len(traces) == len(spikes) == len(steps):
        raise InputError(
            f"viz.calcium: {len(traces)} steps of calcium, spikes {list(spikes.shape)} and {len(steps)} names of steps "
            "do not belong together"
        )
    if lines < 1:
        raise InputError(f"viz.calcium: lines must be at least 1, got {lines}")
    traces, timescales = (tensor.detach().cpu().float() for tensor in (traces, timescales))
    width = min(24.0, max(6.0, 0.13 * len(steps)))
    figure: Figure = require("matplotlib.figure", "viz").Figure(figsize=(width, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    colours = require("matplotlib", "viz").colormaps["viridis"]
    chosen = _liveliest(traces, timescales, lines)
    for place, index in enumerate(chosen):
        colour = colours(0.9 * place / max(1, len(chosen) - 1))
        time = float(timescales[index])
        name = f"{time:.3g} steps" if time < 100 else f"{time:,.0f} steps"
        above.plot(traces[:, index].numpy(), color=colour, label=name, linewidth=1.4)
    above.legend(title="time constant", fontsize="x-small", title_fontsize="x-small", frameon=False, loc="upper left",
                 bbox_to_anchor=(1, 1))  # fmt: skip
    above.set(ylabel="calcium")
    above.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    raster(spikes, below)
    below.set(xlabel="", title=f"{float((spikes != 0).float().mean()):.1%} of the neurons fire a step")
    below.title.set_fontsize("small")
    small = 7 if width < 24.0 else 5
    below.set_xticks(range(len(steps)), [_shown(step) for step in steps], fontsize=small, family="monospace")
    if any(len(step) > 1 for step in steps):
        below.tick_params("x", rotation=90)
    if title:
        figure.suptitle(title)
    return figure


def _liveliest(traces: Tensor, timescales: Tensor, lines: int) -> list[int]:
    """Of each of `lines` ranges of time scales the trace of the largest variance; ranges without one are left out."""
    logs = timescales.log()
    low, high = float(logs.min()), float(logs.max())
    ranges = ((logs - low) / max(high - low, 1e-9) * lines).long().clamp(max=lines - 1)
    spread = traces.var(0, unbiased=False)
    return [
        max((ranges == at).nonzero().flatten().tolist(), key=lambda i: float(spread[i]))
        for at in range(lines)
        if bool((ranges == at).any())
    ]


def _shown(step: str) -> str:
    # A dollar sign would begin a formula.
    return "".join(_SEEN.get(character, character) for character in step).replace("$", r"\$")
