"""CUBALIF and RecurrentLIF beside a plain loop: the run reports every number, and all compute the same."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from benchmarks import family


def test_quick_run_reports_every_number(tmp_path, capsys):
    family.main(["--quick", "--repeats", "2", "--results", str(tmp_path)])
    report = json.loads((tmp_path / "family-1t-quick.json").read_text())
    assert len(report["cells"]) == 4
    for cell in report["cells"]:
        assert {family.OURS, family.PLAIN} <= set(cell["results"])
        assert all(result["cpu"] > 0 for result in cell["results"].values())
        assert set(cell["differ"].values()) == {0}
    text = capsys.readouterr().out
    assert "| RecurrentLIF T=4 B=2 N=8 inference |" in text
    if family.PEER in report["absent"]:
        assert "not installed" in text


@pytest.mark.parametrize("kind", family.KINDS)
def test_all_have_the_equations_of_ours(kind):
    made, parameters, absent = family.layers(kind, 32)
    assert (family.PEER in made) == bool(importlib.util.find_spec("snntorch"))
    assert set(made) | set(absent) == {family.OURS, family.PLAIN, family.PEER}
    x, weight = family.task(12, 8, 32)
    spikes = made[family.OURS](x)
    assert 0.02 < spikes.mean() < 0.3
    expected = torch.autograd.grad(spikes, (x, *parameters), weight)
    for name, layer in made.items():
        found = layer(x)
        assert torch.equal(found, spikes), name
        for one, other in zip(torch.autograd.grad(found, (x, *parameters), weight), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
