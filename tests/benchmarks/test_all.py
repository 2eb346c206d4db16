"""The table of goals: what is met, what is not, what was not measured, and that a failed benchmark is seen."""

from __future__ import annotations

import json

import pytest

from benchmarks import all as everything
from benchmarks.goals import GOALS, fastest_peer
from benchmarks.measure import Timing
from benchmarks.table import busy

CONTENDERS = [
    {"name": "spikekit", "against": "spikekit"},
    {"name": "snntorch", "against": "spikekit"},
    {"name": "norse", "against": "spikekit, reset in the graph"},
]


def timing(ms):
    return Timing(ms, ms, 3)


def report(results, **more):
    cell = {"label": "T=16 M=64k", "steps": 16, "mode": "training", "results": results}
    machine = {"cpu": "a", "cores": 2, "threads": 1, "load": [1.5], "versions": {"torch": "2"}}
    return {"clock": "cpu", "quick": False, "contenders": CONTENDERS, "cells": [cell], "machine": machine} | more


TIMES = {"spikekit": timing(1.0), "spikekit, reset in the graph": timing(2.0), "bound": timing(0.5)}


def test_fastest_peer_is_no_loop_of_ours_and_did_not_fail():
    results = TIMES | {"plain PyTorch loop": timing(0.1), "snntorch": timing(9.0), "norse": "failed"}
    assert fastest_peer(results, "cpu") == "snntorch"
    assert fastest_peer(TIMES, "cpu") is None


def test_a_peer_is_held_against_the_neuron_of_its_reset():
    faster, bound = GOALS["lif"](report(TIMES | {"snntorch": timing(9.0), "norse": timing(7.0)}))
    assert (faster.measured, faster.met) == ("3.5 × norse", False)
    # The slower of our two.
    assert (bound.measured, bound.met) == ("4.00 ×", False)
    faster, _ = GOALS["lif"](report(TIMES | {"snntorch": timing(7.0), "norse": timing(9.0)}))
    assert (faster.measured, faster.met) == ("7.0 × snntorch", True)
    faster, _ = GOALS["lif"](report(TIMES))
    assert str(faster) == "not measured"


def test_summary_tells_the_verdicts_apart(tmp_path):
    for threads, peer in ((1, 9.0), (2, 2.0)):
        made = report(TIMES | {"snntorch": timing(peer)}, clock="cpu")
        (tmp_path / f"lif-{threads}t.json").write_text(json.dumps(made, default=vars), encoding="utf-8")
    found = everything.reports(tmp_path, ["lif", "mlp"], [1, 2], quick=False)
    text = everything.summary(found, [1, 2], ["mlp, 1 thread(s): exit code 1"])
    assert "| ≥ 4 × the fastest PyTorch peer | 9.0 × snntorch: met | 2.0 × snntorch: **NOT met** |" in text
    assert "1 met, 3 NOT met, 0 not measured" in text
    assert "- FAILED: mlp, 1 thread(s): exit code 1" in text


def test_a_busy_machine_is_told_where_threads_wait_for_each_other():
    assert not busy({"threads": 1, "cores": 2, "load": [9.0]})
    assert not busy({"threads": 2, "cores": 2, "load": [0.5]})
    assert busy({"threads": 2, "cores": 2, "load": [1.5]})


def test_a_failed_benchmark_fails_the_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(everything, "run", lambda name, threads, *_: f"{name}, {threads} thread(s): exit code 1")
    assert everything.main(["--only", "lif", "memory", "--results", str(tmp_path)]) == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- FAILED")]
    # Memory has no use for a second thread.
    assert failures == [
        f"- FAILED: {run}: exit code 1" for run in ("lif, 1 thread(s)", "memory, 1 thread(s)", "lif, 2 thread(s)")
    ]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_everything_runs(tmp_path, capfd):
    assert everything.main(["--quick", "--threads", "1", "--results", str(tmp_path)]) == 0
    text = (tmp_path / "summary-quick.md").read_text(encoding="utf-8")
    for name in GOALS:
        if everything.present(name):
            assert f"- {name}, 1 thread(s): " in text
            assert (tmp_path / f"{name}-1t-quick.json").exists()
    assert "QUICK" in text
    assert "FAILED" not in text
    assert text in capfd.readouterr().out
