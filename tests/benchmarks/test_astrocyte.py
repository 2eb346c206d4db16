"""The astrocytes' benchmark: it runs, and its tree scan is one."""

from __future__ import annotations

import torch

from benchmarks.astrocyte import tree


def test_quick_run_reports_every_number(quick):
    report, text = quick("astrocyte", "--repeats", "1")
    assert {cell["mode"] for cell in report["cells"]} == {"training", "inference"}
    assert all(set(cell["results"]) == set(report["cells"][0]["results"]) for cell in report["cells"])
    (scan,) = report["scans"]
    assert scan["difference"] < 1e-6
    assert "### A tree instead" in text


def test_the_tree_is_the_sum():
    a, decay = torch.rand(13, 2, 3, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)
    c, sums = torch.zeros(2, 3, 2, dtype=torch.float64), []
    for activity in a:
        c = decay * c + (1 - decay) * activity.unsqueeze(-1)
        sums.append(c)
    torch.testing.assert_close(tree(a, decay), torch.stack(sums), rtol=1e-12, atol=1e-14)
