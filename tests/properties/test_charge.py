"""Soft reset conserves charge; hard reset does not.

Unrolling u = beta·v + x, v = u - q·s gives, for any beta and any threshold,

    Σ beta^(T-1-t)·x[t] + beta^T·v0 = v[T-1] + q·Σ beta^(T-1-t)·s[t]
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import spikekit as sk

positive = st.floats(0.05, 3)
sizes = st.tuples(st.integers(1, 30), st.integers(1, 3), st.integers(1, 4))


def imbalance(neuron, x, v0, beta, quantum):
    """The largest difference between the two sides of the equation, in units of the terms added up."""
    with torch.no_grad():
        s, state = sk.run(neuron, x, {"": {"v": v0}})
    weights = beta ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64).reshape(-1, 1, 1)
    into = (weights * x).sum(0) + beta ** len(x) * v0
    out = state[""]["v"] + quantum * (weights * s).sum(0)
    scale = (weights * x).abs().sum(0) + v0.abs() + quantum * (weights * s).sum(0) + 1
    return float(((into - out).abs() / scale).max()), float(s.sum())


def drive(size, seed):
    torch.manual_seed(seed)
    return torch.randn(size, dtype=torch.float64) + 0.5, torch.randn(size[1:], dtype=torch.float64)


@given(sizes, st.floats(0, 1), positive, positive, st.booleans(), st.integers(0, 2**31))
def test_soft_reset_conserves_charge(size, beta, threshold, quantum, inclusive, seed):
    x, v0 = drive(size, seed)
    lif = sk.LIF(torch.tensor(beta).double(), threshold, reset_quantum=quantum, inclusive=inclusive).double()
    error, _ = imbalance(lif, x, v0, float(lif.beta), float(lif.reset_quantum))
    assert error < 1e-14


@given(sizes, st.floats(0, 1), st.integers(0, 2**31))
def test_no_reset_keeps_all_charge(size, beta, seed):
    x, v0 = drive(size, seed)
    beta = torch.tensor(beta).double()
    error, _ = imbalance(sk.LIF(beta, reset="none").double(), x, v0, float(beta), 0.0)
    assert error < 1e-14


@given(st.floats(0.5, 1), st.integers(0, 2**31))
def test_hard_reset_does_not(beta, seed):
    x, v0 = drive((20, 2, 3), seed)
    beta = torch.tensor(beta).double()
    error, spikes = imbalance(sk.LIF(beta, reset="hard").double(), x, v0, float(beta), 1.0)
    assume(spikes > 5)
    assert error > 1e-4


@given(st.floats(0.5, 1), positive, st.integers(0, 2**31))
def test_the_charge_of_a_spike_is_the_quantum_not_the_threshold(beta, quantum, seed):
    assume(abs(quantum - 1) > 0.05)
    x, v0 = drive((20, 2, 3), seed)
    beta = torch.tensor(beta).double()
    lif = sk.LIF(beta, threshold=1.0, reset_quantum=quantum).double()
    error, spikes = imbalance(lif, x, v0, float(beta), 1.0)
    assume(spikes > 5)
    assert error > 1e-4


@given(sizes, st.floats(0, 1), st.floats(0, 1), positive, st.integers(0, 2**31))
def test_a_current_adds_up_its_drive_and_hands_all_of_it_to_the_membrane(size, alpha, beta, quantum, seed):
    x, v0 = drive(size, seed)
    alpha, beta = torch.tensor([alpha, beta], dtype=torch.float64)
    neuron = sk.CUBALIF(alpha, beta, reset_quantum=quantum).double()
    start = {"": {"i": v0.flip(0), "v": v0}}
    with torch.no_grad():
        _, recorded = sk.record(neuron, x, ["current", "spikes"], start)
        _, state = sk.run(neuron, x, start)
    for into, fired, first, last, decay in (
        (x, 0 * x, v0.flip(0), state[""]["i"], alpha),
        (recorded["current"], neuron.reset_quantum * recorded["spikes"], v0, state[""]["v"], beta),
    ):
        weights = decay ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64).reshape(-1, 1, 1)
        left = (weights * (into - fired)).sum(0) + decay ** len(x) * first
        torch.testing.assert_close(last, left, rtol=1e-12, atol=1e-11)


@given(sizes, st.floats(0, 1), positive, st.integers(0, 2**31))
def test_what_recurrent_spikes_bring_back_is_charge_too(size, beta, quantum, seed):
    x, v0 = drive(size, seed)
    beta = torch.tensor(beta, dtype=torch.float64)
    neuron = sk.RecurrentLIF(size[2], beta, reset_quantum=quantum).double()
    s0 = (torch.rand_like(v0) < 0.5).double()
    with torch.no_grad():
        s, state = sk.run(neuron, x, {"": {"v": v0, "s": s0}})
        into = x + torch.cat([s0[None], s[:-1]]) @ neuron.recurrent.weight.t()
    weights = beta ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64).reshape(-1, 1, 1)
    left = (weights * (into - neuron.reset_quantum * s)).sum(0) + beta ** len(x) * v0
    torch.testing.assert_close(state[""]["v"], left, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_over_a_thousand_steps(dtype):
    """No leak: what went in is what is left and what was fired, up to the rounding of float32."""
    x = torch.rand(1000, 2, 3).to(dtype)
    s, state = sk.run(sk.IF(), x)
    into, out = x.double().sum(0), state[""]["v"].double() + s.double().sum(0)
    torch.testing.assert_close(into, out, rtol=1e-6, atol=1e-4)
