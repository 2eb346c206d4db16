"""Cross-validation folds."""

from __future__ import annotations

import numpy as np
import pytest

from spikekit.datasets import kfold
from spikekit.errors import InputError

LABELS = np.repeat([0, 1, 2], [10, 15, 20])


def test_each_index_is_tested_once_and_classes_are_spread():
    folds = kfold(LABELS, 5)
    assert len(folds) == 5
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(45))
    for train, test in folds:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(45))
        assert np.bincount(LABELS[test]).tolist() == [2, 3, 4]
        assert train.dtype == test.dtype == np.int64


def test_the_seed_decides():
    first, again, other = kfold(LABELS, 5, seed=1), kfold(LABELS, 5, seed=1), kfold(LABELS, 5, seed=2)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("labels", "k", "message"),
    [
        (LABELS, 11, "11 members of each class; class 0 has 10"),
        (LABELS, 1, "k >= 2"),
        ([], 2, "labels must be integers"),
        ([0.5, 1.5], 2, "labels must be integers"),
        ([[0, 1]], 2, r"labels must be integers \[N\], got int64 \[1, 2\]"),
    ],
)
def test_bad_folds(labels, k, message):
    with pytest.raises(InputError, match=message):
        kfold(labels, k)
