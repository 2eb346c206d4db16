"""mlp and conv: quick runs, the check beside the twin, and torch.compile."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from benchmarks.compiled import compare_compiled
from benchmarks.contenders import NETWORKS, OURS, OURS_PIECES, PLAIN
from benchmarks.measure import PEERS
from benchmarks.networks import build, check, floor
from benchmarks.workloads import conv, mlp


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_quick_run_reports_every_number(quick, name):
    report, text = quick(name, "--no-compile", "--repeats", "1", "--steps", "3", "--batch", "2")
    training, inference = report["cells"]
    both = {"floor"} | {c.name for c in NETWORKS if c.name not in PEERS}
    assert set(training["results"]) == both - {OURS_PIECES.name}
    assert set(inference["results"]) == both
    assert all(result["cpu"] > 0 for cell in report["cells"] for result in cell["results"].values())
    assert "Input density" in text
    assert "torch.compile" not in text


def test_workloads_fire_as_they_say():
    workload = mlp(steps=20, batch=8, density=0.05)
    found = check(build(OURS, workload), workload)
    assert workload.x.mean().item() == pytest.approx(0.05, abs=0.005)
    assert found.spikes / found.entries == pytest.approx(0.05, abs=0.02)
    assert workload.neurons() == 8 * (256 + 256)


PRESENT = [c for c in NETWORKS if c.name not in PEERS or importlib.util.find_spec(c.name)]


@pytest.mark.parametrize("make", [mlp, conv], ids=["mlp", "conv"])
@pytest.mark.parametrize("contender", PRESENT, ids=[c.name for c in PRESENT])
def test_networks_are_their_twins(contender, make):
    workload = make(steps=6, batch=2)
    found = check(build(contender, workload), workload)
    assert found.differ <= 1e-3 * found.spikes
    assert found.gradient_error < 1e-4


def test_check_sees_a_weight_that_differs():
    workload = mlp(steps=6, batch=2)
    network = build(PLAIN, workload)
    with torch.no_grad():
        next(iter(network.parameters())).mul_(1.1)
    assert check(network, workload).refusal() is not None


def test_floor_is_the_weights_alone():
    workload = mlp(steps=2, batch=3)
    expected = workload.x
    for stage in workload.stages:
        expected = stage(expected)
    torch.testing.assert_close(floor(workload).run(workload.x), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_network_is_timed_beside_eager():
    found, lines = compare_compiled(mlp(steps=3, batch=2), repeats=1, budget=1.0, clock="cpu")
    assert all(found[mode]["first"] > 0 and set(found[mode]["results"]) == {"eager", "compiled"} for mode in found)
    assert "× eager" in "\n".join(lines)
