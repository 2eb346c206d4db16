"""Thresholds shared by many neurons: at most so many values in a layer, by giving rows a scale that lands on one.

A row that is scaled down lands on any lower threshold exactly; all it loses are bits of its weights. So the levels are
chosen to lose the fewest bits, and each row takes the highest level that is not above what it would take alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikekit.errors import InputError

Floats = NDArray[np.float64]

THRESHOLDS = {"neuron": None, "group": 16, "layer": 1}
"""How thresholds are kept -> the most that a layer may have. 16: the configurations of a core of Loihi 1."""

# Distinct rows that the search looks at; beyond, neighbours count as one, at the lowest of them.
_SEARCHED = 512


def most_thresholds(thresholds: str) -> int | None:
    """The number of thresholds a layer may have, None for one a neuron. Raises InputError for another word."""
    if not isinstance(thresholds, str) or thresholds not in THRESHOLDS:
        raise InputError(f"to_loihi: thresholds must be one of {tuple(THRESHOLDS)}, got {thresholds!r}")
    return THRESHOLDS[thresholds]


def share_levels(wanted: Floats, most: int) -> Floats:
    """For each entry of `wanted` [rows], above 0, the level it is to take: not above it, at most `most` distinct.

    Optimal for the sum of log2(wanted / level), by dynamic programming over the sorted values.
    """
    values, counts = np.unique(wanted, return_counts=True)
    if len(values) > _SEARCHED:
        starts = np.unique(np.linspace(0, len(values), _SEARCHED, endpoint=False).astype(int))
        values, counts = values[starts], np.add.reduceat(counts, starts)
    n, groups = len(values), min(most, len(values))
    logs = np.log2(values)
    number = np.concatenate([[0], counts.cumsum()])
    total = np.concatenate([[0], (counts * logs).cumsum()])
    # cost[i, j]: what the values i .. j - 1 lose when they all take value i.
    cost = (total - total[:-1, None]) - logs[:, None] * (number - number[:-1, None])
    cost[np.arange(n + 1) <= np.arange(n)[:, None]] = np.inf
    best = cost[0]
    chosen = [np.zeros(n + 1, int)]
    for _ in range(groups - 1):
        every = best[:-1, None] + cost
        chosen.append(every.argmin(0))
        best = every.min(0)
    end, levels = n, []
    for start in reversed(chosen):
        end = int(start[end])
        levels.append(values[end])
    ordered = np.sort(levels)
    level: Floats = ordered[np.searchsorted(ordered, wanted, side="right") - 1]
    return level


def nearest_level(wanted: Floats, levels: Floats) -> Floats:
    """For each entry of `wanted` the closest of `levels`, as a ratio."""
    ordered = np.unique(levels)
    middles = np.sqrt(ordered[1:] * ordered[:-1])
    nearest: Floats = ordered[np.searchsorted(middles, wanted)]
    return nearest
