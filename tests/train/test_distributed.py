"""Two processes on one machine, over the loopback: same weights, different data, exact metrics."""

from __future__ import annotations

import json
import socket
from collections import Counter

import pytest
import torch


def torchrun(start_toy, folder, options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}")
    child = start_toy(folder, json.dumps(options), launcher)
    output, _ = child.communicate(timeout=120)
    return child.returncode, output


def reports(folder):
    return [json.loads((folder / f"report-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def run(start_toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    code, output = torchrun(start_toy, folder, {"epochs": 2, "test_samples": 71})
    assert code == 0, output
    return folder, reports(folder)


def test_both_processes_end_with_the_same_weights(run):
    first, second = run[1]
    assert first["world"] == second["world"] == 2
    assert first["weights"] == second["weights"]


def test_they_saw_different_samples(toy, run):
    first, second = (Counter(report["seen"]) for report in run[1])
    # 9 batches of 8 over two processes: five each, one batch of each epoch twice.
    assert first.total() == second.total() == 2 * 5 * 8
    everything = first + second
    assert set(everything) == set(range(toy.SAMPLES))
    assert everything.total() == 2 * (toy.SAMPLES + 8)
    assert max(everything.values()) <= 2 + 2


def test_their_dropout_differs(run):
    first, second = run[1]
    assert first["random"] != second["random"]


def test_metrics_are_those_of_one_process(toy, run):
    """71 samples do not divide by two: none may be counted twice."""
    first, second = run[1]
    net = toy.network()
    net.load_state_dict({name: torch.tensor(value) for name, value in first["weights"].items()})
    metrics = toy.trainer(net).evaluate(toy.loader(shuffle=False, augment=False, samples=71))
    for report in (first, second):
        assert report["samples"] == metrics.samples == 71
        assert report["accuracy"] == metrics.accuracy
        assert report["loss"] == pytest.approx(metrics.loss, rel=1e-9)
        assert report["rates"] == metrics.rates


def test_one_process_writes_the_logs(run):
    lines = (run[0] / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2"]


def test_a_run_of_two_processes_is_not_continued_by_one(toy, run):
    from spikekit.errors import CheckpointError

    with pytest.raises(CheckpointError, match="processes = 2 and cannot go on with 1"):
        toy.trainer(toy.network(), run[0]).fit(toy.loader(), epochs=3)


@pytest.mark.slow
def test_two_processes_resume_exactly(start_toy, run, tmp_path):
    code, _ = torchrun(start_toy, tmp_path, {"epochs": 2, "every": 2, "at": [2, 3], "action": "kill"})
    assert code != 0
    code, output = torchrun(start_toy, tmp_path, {"epochs": 2, "every": 2, "test_samples": 71})
    assert code == 0, output
    for one, other in zip(reports(tmp_path), run[1], strict=True):
        assert {**one, "seen": None} == {**other, "seen": None}


@pytest.mark.slow
def test_statistics_over_both_processes(start_toy, toy, tmp_path):
    """sk.MPBN(sync=True) asks the other process while both train, and never while they evaluate."""
    # 70 samples: processes validate on different numbers of batches.
    code, output = torchrun(start_toy, tmp_path, {"epochs": 2, "sync": True, "test_samples": 70})
    assert code == 0, output
    first, second = reports(tmp_path)
    assert first["weights"] == second["weights"]
    assert first["loss"] == second["loss"]
    # Each epoch has nine batches, five for each process.
    assert first["weights"]["2.norm.num_batches_tracked"] == 2 * 5 * toy.STEPS
    assert first["weights"]["2.norm.running_mean"] != [0] * 16
