"""Timing and memory: what is counted, how often, and what becomes of a call that fails."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk
from benchmarks.footprint import Peak, kept_for_backward
from benchmarks.measure import alternate


def test_slow_contenders_get_fewer_calls():
    seen = {"fast": 0, "slow": 0}

    def call(name, work):
        def run():
            seen[name] += 1
            sum(range(work))

        return run

    results = alternate({"fast": call("fast", 1), "slow": call("slow", 4_000_000)}, repeats=4, budget=1e-2)
    assert results["fast"].repeats == 4
    assert results["slow"].repeats == 1
    assert seen == {"fast": 5, "slow": 1}


def test_failure_is_its_own_result():
    results = alternate({"works": lambda: None, "fails": lambda: 1 / 0}, repeats=2, budget=1.0)
    assert results["fails"] == "ZeroDivisionError: division by zero"
    assert results["works"].repeats == 2


def test_kept_counts_each_storage_once_and_nothing_that_exists_anyway():
    x = torch.rand(1000, requires_grad=True)
    # Both products save x and the result of exp, which are two storages.
    assert kept_for_backward(lambda: (x * x.exp()) * x) == pytest.approx(3 * 4000)
    assert kept_for_backward(lambda: (x * x.exp()) * x, besides=[x]) == pytest.approx(2 * 4000)


def test_kept_leaves_out_what_is_gone_at_the_end():
    x = torch.rand(1000, requires_grad=True)

    def forward():
        # Saves three results, and drops them with its graph.
        x.exp().tanh().sigmoid()
        return x.exp()

    assert kept_for_backward(forward) == 4000


def test_lif_keeps_four_bytes_for_each_further_step():
    lif = sk.LIF()
    short, long = (kept_for_backward(lambda t=t: lif(torch.rand(t, 2, 50, requires_grad=True))) for t in (10, 20))
    assert long - short == 10 * 2 * 50 * 4


@pytest.mark.skipif(not Peak.available(), reason="the system does not tell the peak")
def test_peak_sees_memory_that_is_gone_again():
    peak = Peak()
    peak.start()
    before = peak.bytes()
    torch.ones(1 << 24)
    assert 0.9 * (1 << 26) < peak.bytes() - before < 1.5 * (1 << 26)
