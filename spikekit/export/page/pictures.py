"""Pictures of a report as inline SVG: rasters, histograms, meters. Colours come from the page."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikekit.export.page.html import Html, tag

# Cells of a raster and shades of one: a raster of thousands of neurons stays below some 100 kB.
_ROWS, _COLUMNS, _SHADES = 120, 200, 5


def raster(spikes: NDArray[np.bool_]) -> Html:
    """Spikes [T, n]: time to the right, neurons upwards; where several share a cell, it is as dark as many fire."""
    cells = _binned(_binned(spikes.astype(np.float64), _COLUMNS).T, _ROWS)[::-1]
    rows, columns = cells.shape
    # The faintest shade stays visible: a lonely spike among a hundred neurons is what one looks for.
    shades = np.ceil(np.sqrt(cells) * _SHADES).astype(int)
    paths = []
    for shade in range(1, _SHADES + 1):
        strokes = "".join(_run(y, start, stop) for y in range(rows) for start, stop in _runs(shades[y] == shade))
        if strokes:
            opacity = 1.0 if cells.max() == 1 and shade == _SHADES else 0.15 + 0.85 * shade / _SHADES
            paths.append(tag("path", d=strokes, fill="currentColor", fill_opacity=f"{opacity:.2f}"))
    return _picture(columns, rows, *paths, label=f"spikes of {spikes.shape[1]} neurons in {len(spikes)} steps")


def histogram(values: NDArray[np.float64], low: float, high: float, label: str, bars: int = 32) -> Html:
    """How many of `values` lie in each of so many equal parts of low to high; the highest bar fills the picture."""
    counts, _ = np.histogram(values, bins=bars, range=(low, high if high > low else low + 1))
    most = max(int(counts.max()), 1)
    outline = "".join(
        f"M{i + 0.1:.1f} 40v{-38 * count / most:.2f}h.8v{38 * count / most:.2f}z"
        for i, count in enumerate(counts)
        if count
    )
    return _picture(bars, 40, tag("path", d=outline, fill="currentColor"), label=label)


def meter(part: float) -> Html:
    """A bar that is full at 1."""
    width = 100 * min(max(part, 0.0), 1.0)
    bar = tag("rect", width=f"{width:.1f}", height=10, fill="currentColor")
    return tag(
        "svg", bar, class_="meter", viewBox="0 0 100 10", preserveAspectRatio="none", role="img",
        aria_label=f"{part:.0%}",
    )  # fmt: skip


def _picture(width: int, height: int, *children: Html, label: str) -> Html:
    return tag(
        "svg", *children, viewBox=f"0 0 {width} {height}", preserveAspectRatio="none", role="img",
        shape_rendering="crispEdges", aria_label=label,
    )  # fmt: skip


def _binned(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Means over neighbouring rows, so that at most so many rows are left."""
    count = len(values)
    if count <= most:
        return values
    edges = np.linspace(0, count, most, endpoint=False).astype(int)
    sizes = np.diff([*edges, count])
    binned: NDArray[np.float64] = np.add.reduceat(values, edges, axis=0) / sizes[:, None]
    return binned


def _runs(row: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _run(y: int, start: int, stop: int) -> str:
    return f"M{start} {y}h{stop - start}v1H{start}z"
