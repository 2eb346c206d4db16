"""Ten million decisions of each network: resets, signs, channels and elements, float32 and float64."""

from __future__ import annotations

import pytest

from benchmarks.fold import NETWORKS, cases, probe


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_no_decision_differs_away_from_ties(name):
    chosen = cases([name])
    found = [probe(*case, decisions=10_000_000 // len(chosen), batch=32) for case in chosen]
    assert sum(each["decisions"] for each in found) >= 10_000_000
    assert [each["away"] for each in found] == [0] * len(chosen)
    assert all(each["mismatches"] <= each["ties"] for each in found)
    assert all(0.02 < each["spikes"] / each["decisions"] < 0.98 for each in found)
