"""Ten million decisions of each network: resets, signs, channels and elements, float32 and float64."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.fold import DTYPES, NETWORKS, RESETS, SIGNS, probe


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_no_decision_differs_away_from_ties(name):
    cases = list(itertools.product(RESETS, SIGNS, (False, True), DTYPES))
    found = [probe(name, *case, decisions=500_000) for case in cases]
    assert sum(each["decisions"] for each in found) >= 10_000_000
    assert [each["away"] for each in found] == [0] * len(cases)
    assert all(each["mismatches"] <= each["ties"] for each in found)
    assert all(0.02 < each["spikes"] / each["decisions"] < 0.98 for each in found)
