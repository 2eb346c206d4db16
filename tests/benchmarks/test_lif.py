"""The benchmark runs at toy sizes, checks equations before it times, and never drops a contender in silence."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

import spikekit as sk
from benchmarks import contenders, lif, measure
from benchmarks.contenders import OURS, PEERS, Contender


@pytest.fixture
def without_peers(monkeypatch):
    """Only the plain loop, whatever is installed."""
    monkeypatch.setattr(lif, "PEERS", PEERS[:1])
    monkeypatch.setattr("benchmarks.table.PEERS", PEERS[:1])


def toy(tmp_path, capsys, *more: str) -> tuple[dict, str]:
    threads = torch.get_num_threads()
    try:
        lif.main(
            ["--quick", "--steps", "2", "--neurons", "64", "--repeats", "2", "--json", str(tmp_path / "r.json"), *more]
        )
    finally:
        torch.set_num_threads(threads)
    return json.loads((tmp_path / "r.json").read_text(encoding="utf-8")), capsys.readouterr().out


@pytest.mark.usefixtures("without_peers")
def test_quick_run_reports_every_number(tmp_path, capsys):
    report, text = toy(tmp_path, capsys)
    assert [cell["mode"] for cell in report["cells"]] == ["training", "inference"]
    for cell in report["cells"]:
        assert set(cell["results"]) == {"spikekit", "spikekit, reset in the graph", "plain PyTorch loop"}
        assert all(result["repeats"] == 2 and result["cpu"] > 0 for result in cell["results"].values())
    assert report["machine"]["versions"]["torch"] == torch.__version__
    assert "| faster than plain PyTorch loop |" in text
    assert "### Same equations?" in text
    assert "DISAGREES" not in text


@pytest.mark.usefixtures("without_peers")
def test_missing_and_broken_contenders_stay_in_the_table(monkeypatch, tmp_path, capsys):
    def missing():
        import a_library_that_is_not_there  # noqa: F401

    def breaks_later():
        # Works on the size of the check, fails on the one that is timed.
        return lambda x: sk.LIF(0.9, detach_reset=True)(x) if x.shape[0] == 16 else 1 / 0

    def wrong():
        return sk.LIF(0.5)

    peers = [Contender(build.__name__, build, OURS.twin, "a note") for build in (missing, breaks_later, wrong)]
    monkeypatch.setattr(lif, "PEERS", peers)
    monkeypatch.setattr("benchmarks.table.PEERS", peers)
    report, text = toy(tmp_path, capsys)
    assert "| faster than missing | not installed (a_library_that_is_not_there) |" in text
    assert "| faster than breaks_later | failed |" in text
    assert "- breaks_later: ZeroDivisionError: division by zero" in text
    assert "DISAGREES with its twin, do not compare; a note" in text
    assert set(report["absent"]) == {"missing"}


PRESENT = [peer for peer in PEERS if peer is PEERS[0] or importlib.util.find_spec(peer.name)]


@pytest.mark.parametrize("contender", PRESENT, ids=[peer.name for peer in PRESENT])
def test_twin_has_the_equations_of_the_contender(contender: Contender):
    found = lif.agreement(contender, contender.build())
    assert found["spikes_differ"] < 1e-3
    assert found["gradient_error"] < 1e-3
    assert 0.05 < found["rate"] < 0.5


def test_slow_contenders_get_fewer_calls():
    seen = {"fast": 0, "slow": 0}

    def call(name, work):
        def run():
            seen[name] += 1
            sum(range(work))

        return run

    calls = {"fast": call("fast", 1), "slow": call("slow", 400_000)}
    results = measure.alternate(calls, repeats=4, budget=1e-4)
    assert results["fast"].repeats == 4
    assert results["slow"].repeats == 1
    assert seen == {"fast": 5, "slow": 1}


def test_plain_loop_is_the_definition():
    x = lif.drive(10, 320)
    assert torch.equal(contenders.PEERS[0].build()(x), sk.LIF(0.9)(x))
