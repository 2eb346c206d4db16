"""Anchors fitted to a set of boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spikekit.errors import InputError, require

Sizes = npt.NDArray[np.floating[Any]]


def fit_anchors(sizes: Sizes, scales: int = 2, each: int = 3, seed: int = 0) -> list[list[list[float]]]:
    """Anchors [scales][each][width, height] in pixels for boxes of `sizes` [n, 2], from small to large.

    k-means (scikit-learn, the extra "detect") of the logarithms, since a box is matched by the ratio of its sides to an
    anchor's. Raises InputError for fewer boxes than anchors and for sizes that are not finite and above 0.
    """
    count = scales * each
    sizes = _checked(sizes, count, f"fit_anchors: {count} anchors need")
    means = require("sklearn.cluster", "detect").KMeans(count, n_init=10, random_state=seed)
    found = np.exp(means.fit(np.log(sizes)).cluster_centers_)
    ordered = found[np.argsort(found.prod(1))].round(1).reshape(scales, each, 2)
    return [[[float(w), float(h)] for w, h in scale] for scale in ordered]


def recall(sizes: Sizes, anchors: Any, ratio: float = 4.0) -> float:
    """The part of boxes of `sizes` [n, 2] that some anchor matches: both sides within a factor of `ratio`.

    Raises InputError for no boxes and for sizes that are not finite and above 0.
    """
    factor = _checked(sizes, 1, "recall: needs")[:, None] / np.asarray(anchors, dtype=np.float64).reshape(1, -1, 2)
    return float((np.maximum(factor, 1 / factor).max(-1) < ratio).any(1).mean())


def _checked(sizes: Any, least: int, needs: str) -> Sizes:
    checked = np.asarray(sizes, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] != 2 or len(checked) < least:
        raise InputError(f"{needs} {least} or more sizes [n, 2], got {list(checked.shape)}")
    wrong = ~(np.isfinite(checked) & (checked > 0)).all(1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{needs} finite sizes above 0, but row {row} is {checked[row].tolist()}")
    return checked
