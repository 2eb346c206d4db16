"""The density sweep: its run, and how monotony and crossover are read off times."""

from __future__ import annotations

import pytest

from benchmarks.contenders import OURS
from benchmarks.density import DENSE, TORCH, crossover, gains, monotone
from benchmarks.measure import Timing
from spikekit.ops.paths import forced_path


def cells(mine, dense):
    return [
        {"density": d, "results": {OURS.name: Timing(a, a, 3), DENSE.name: Timing(b, b, 3)}}
        for d, a, b in zip((0.01, 0.1, 1.0), mine, dense, strict=True)
    ]


def test_quick_run_reports_every_number(quick):
    before = forced_path()
    report, text = quick("density", "--repeats", "1", "--densities", "0.5", "0.05")
    assert forced_path() == before
    assert [cell["density"] for cell in report["cells"]] == [0.05, 0.5] * 4
    for cell in report["cells"]:
        alone = cell["workload"] != "mlp"
        assert set(cell["results"]) == {OURS.name, DENSE.name} | (set() if alone else {TORCH.name, "floor"})
    assert len(report["summary"]) == 4
    assert "### Crossover" in text


def test_crossover_lies_between_the_densities():
    found = crossover(gains(cells((1, 2, 4), (4, 4, 4)), "cpu"))
    # The gain falls from 2 to 1 over a decade, and is lost at 1.1.
    assert found == pytest.approx(0.1 * 10**0.9)
    assert crossover(gains(cells((1, 1, 1), (2, 2, 2)), "cpu")) == 1.0
    assert crossover(gains(cells((1, 1, 1), (1, 1, 1)), "cpu")) is None


def test_monotone_forgives_noise_alone():
    assert monotone(cells((1, 2, 3), (3, 3, 3)), "cpu")
    assert monotone(cells((1.05, 1, 3), (3, 3, 3)), "cpu")
    assert not monotone(cells((1.3, 1, 3), (3, 3, 3)), "cpu")
