from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikekit.errors import InputError
from spikekit.export.levels import most_thresholds, nearest_level, share_levels


@given(wanted=st.lists(st.floats(0.01, 1e5), min_size=1, max_size=7), most=st.integers(1, 4))
def test_no_other_choice_of_levels_loses_fewer_bits(wanted, most):
    wanted = np.array(wanted)
    found = share_levels(wanted, most)
    assert len(np.unique(found)) <= most
    assert (found <= wanted).all()
    values = np.unique(wanted)
    least = np.inf
    for k in range(1, min(most, len(values)) + 1):
        for others in combinations(values[1:], k - 1):
            levels = np.array([values[0], *others])
            taken = levels[np.searchsorted(levels, wanted, side="right") - 1]
            least = min(least, np.log2(wanted / taken).sum())
    assert np.log2(wanted / found).sum() <= least + 1e-9


def test_as_many_levels_as_values_lose_nothing():
    wanted = np.array([3.0, 1.0, 2.0, 3.0])
    assert share_levels(wanted, 3).tolist() == wanted.tolist()
    assert share_levels(wanted, 16).tolist() == wanted.tolist()
    assert share_levels(wanted, 1).tolist() == [1.0] * 4


def test_thousands_of_rows_are_searched_in_a_moment():
    wanted = np.random.default_rng(0).lognormal(size=20_000)
    found = share_levels(wanted, 16)
    assert len(np.unique(found)) == 16
    assert (found <= wanted).all()
    # Sixteen levels over a spread of e^±4: half a bit each at the most, on average.
    assert np.log2(wanted / found).mean() < 0.5


def test_the_nearest_level_is_that_of_the_smaller_ratio():
    assert nearest_level(np.array([1.0, 1.9, 2.1, 100.0]), np.array([4.0, 1.0])).tolist() == [1.0, 1.0, 4.0, 4.0]


def test_only_three_words_are_known():
    assert [most_thresholds(word) for word in ("neuron", "group", "layer")] == [None, 16, 1]
    with pytest.raises(InputError, match="thresholds must be one of"):
        most_thresholds("core")
