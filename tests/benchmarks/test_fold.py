"""The fold benchmark runs at toy sizes and says what it found."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import fold


@pytest.mark.usefixtures("without_peers")
def test_quick_run_reports_every_number(tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        fold.main(["--quick", "--results", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    report = json.loads((tmp_path / "fold-1t-quick.json").read_text(encoding="utf-8"))
    text = capsys.readouterr().out
    assert len(report["probes"]) == 60
    assert all(found["away"] == 0 < found["spikes"] < found["decisions"] for found in report["probes"])
    assert report["absent"]
    assert "spikekit, in all: 0 of" in text


def test_spikingjelly_against_its_own_fold():
    pytest.importorskip("spikingjelly", reason="`make bench` makes an environment that has it")
    found = fold.peer("soft", "mixed", conv=False, residual=False)
    assert found["ours"] == 0
    assert found["theirs"] > 0.2 * found["decisions"]
    assert fold.peer("hard", "positive", conv=False, residual=True)["theirs"] <= 5
