"""The MPBN benchmark runs at toy sizes, and its contenders compute what it says."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import mpbn


@pytest.fixture
def without_peers(monkeypatch):
    """As where SpikingJelly is not installed."""

    def absent(channels, conv):
        raise ModuleNotFoundError("No module named 'spikingjelly'", name="spikingjelly")

    monkeypatch.setattr(mpbn, "spikingjelly_layer", absent)


@pytest.mark.usefixtures("without_peers")
def test_quick_run_reports_every_number(tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        mpbn.main(["--quick", "--repeats", "2", "--results", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    report = json.loads((tmp_path / "mpbn-1t-quick.json").read_text(encoding="utf-8"))
    text = (tmp_path / "mpbn-1t-quick.md").read_text(encoding="utf-8")
    assert text.split("\n\n", 1)[1].strip() in capsys.readouterr().out
    assert [cell["label"] for cell in report["cells"]] == ["T=4 N=32", "T=4 N=8x4x4"]
    for cell in report["cells"]:
        assert set(cell["results"]) == {"spikekit", "plain loop"}
        assert all(result["repeats"] == 2 and result["cpu"] > 0 for result in cell["results"].values())
    assert "spikingjelly" in report["absent"]
    assert "not installed" in text


@pytest.mark.usefixtures("without_peers")
def test_spikekit_computes_what_the_plain_loop_computes():
    [check] = mpbn.checks()
    assert check["spikes"] > 1000
    assert check["differ"] <= 1
    assert check["gradient_error"] < 1e-4


def test_spikingjelly_keeps_the_normalised_membrane():
    pytest.importorskip("spikingjelly", reason="`make bench` makes an environment that has it")
    _, check = mpbn.checks()
    assert check["differ"] <= 5
    own, ours = (mpbn.plain_layer(64, keep_normalised=keep) for keep in (True, False))
    assert mpbn.agreement("", own, ours)["differ"] > 100
