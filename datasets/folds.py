"""Cross-validation indices: small event sets need them, 100 test samples leave 2 to 3 points of doubt."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spikekit.errors import InputError, require


def kfold(
    labels: npt.ArrayLike, k: int = 5, *, seed: int = 0
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Split 0..N-1 into `k` stratified folds -> k pairs (train indices, test indices), int64, sorted.

    labels: integers [N]. Every index is in exactly one test part, and each class is spread evenly. The
    folds depend on labels, k and seed alone. Raises InputError for k < 2 or a class with fewer than k
    members.
    """
    classes = np.asarray(labels)
    if classes.ndim != 1 or classes.dtype.kind not in "iu" or not classes.size:
        raise InputError(f"kfold: labels must be integers [N], got {classes.dtype} {list(classes.shape)}.")
    values, counts = np.unique(classes, return_counts=True)
    if k < 2 or counts.min() < k:
        raise InputError(
            f"kfold: {k} folds need k >= 2 and {k} members of each class; "
            f"class {values[counts.argmin()]} has {counts.min()}. Use another k."
        )
    selection: Any = require("sklearn.model_selection", "events")
    folds = selection.StratifiedKFold(n_splits=k, shuffle=True, random_state=seed)
    pairs = folds.split(np.zeros(len(classes)), classes)
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in pairs]
