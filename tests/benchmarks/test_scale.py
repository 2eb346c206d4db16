"""Growth with the size: the run, the slope, and who leaves a series before it takes minutes."""

from __future__ import annotations

import pytest

from benchmarks.contenders import OURS
from benchmarks.measure import Timing
from benchmarks.scale import affordable, slope


def test_quick_run_reports_every_number(quick):
    report, text = quick("scale", "--repeats", "1")
    assert {cell["along"] for cell in report["cells"]} == {"steps", "neurons"}
    memory = {(s["name"], s["along"]): s["slope"] for s in report["slopes"] if s["mode"] == "kept for backward"}
    assert memory[OURS.name, "neurons"] == pytest.approx(1.0, abs=0.01)
    assert report["bytes_a_step"] == pytest.approx(4.0)
    assert "### Slopes" in text


def test_slope_is_the_power_over_the_upper_half():
    assert slope([(x, 3 * x**2) for x in (1, 2, 4, 8)]) == pytest.approx(2.0)
    # A constant cost at small sizes does not count.
    assert slope([(1, 64), (2, 64), (4, 64), (8, 64), (16, 128), (32, 256)]) == pytest.approx(1.0)
    assert slope([(1, 1)]) is None


def test_a_contender_leaves_before_it_is_over_budget():
    layers = {"fast": None, "slow": None, "failed": None, "new": None}
    last = {"fast": Timing(0.1, 0.1, 3), "slow": Timing(2.0, 2.0, 3), "failed": "MemoryError: "}
    assert set(affordable(layers, last, growth=4, budget=20)) == {"fast", "new"}
