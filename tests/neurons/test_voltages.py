"""Voltages, spikes and gradients of a few steps worked out by hand; every number is exact in binary."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk

DRIVE = [0.75, 0.75, 0.75, 2.5, 0.0, 1.0]
# settings, membranes before the decision, spikes, membrane left at the end
CASES = {
    "soft": (
        {"reset": "soft"},
        [0.75, 1.125, 0.8125, 2.90625, 0.953125, 1.4765625],
        [0, 1, 0, 1, 0, 1],
        0.4765625,
    ),
    "soft, quantum 0.5": (
        {"reset": "soft", "reset_quantum": 0.5},
        [0.75, 1.125, 1.0625, 2.78125, 1.140625, 1.3203125],
        [0, 1, 1, 1, 1, 1],
        0.8203125,
    ),
    "hard": ({"reset": "hard"}, [0.75, 1.125, 0.75, 2.875, 0.0, 1.0], [0, 1, 0, 1, 0, 0], 1.0),
    "hard, inclusive": (
        {"reset": "hard", "inclusive": True},
        [0.75, 1.125, 0.75, 2.875, 0.0, 1.0],
        [0, 1, 0, 1, 0, 1],
        0.0,
    ),
    "none": (
        {"reset": "none"},
        [0.75, 1.125, 1.3125, 3.15625, 1.578125, 1.7890625],
        [0, 1, 1, 1, 1, 1],
        1.7890625,
    ),
}


def column(values):
    return torch.tensor(values).reshape(-1, 1, 1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grad", [False, True])
def test_lif(case, grad):
    settings, membranes, spikes, last = CASES[case]
    lif = sk.LIF(beta=0.5, threshold=1.0, **settings)
    x = column(DRIVE).requires_grad_(grad)
    y, recorded = sk.record(lif, x, ["membrane", "spikes", "drive"])
    assert y.flatten().tolist() == spikes
    assert recorded["spikes"].flatten().tolist() == spikes
    assert recorded["membrane"].flatten().tolist() == membranes
    assert recorded["drive"].flatten().tolist() == DRIVE
    y, state = sk.run(lif, x)
    assert y.flatten().tolist() == spikes
    assert state[""]["v"].flatten().tolist() == [last]


def test_state_starts_where_it_is_told():
    lif = sk.LIF(beta=0.5, threshold=1.0)
    y, state = sk.run(lif, column([0.25, 0.0]), {"": {"v": torch.tensor([[2.0]])}})
    assert y.flatten().tolist() == [1, 0]
    assert state[""]["v"].item() == 0.125


def test_integrator():
    y, state = sk.run(sk.LI(beta=0.5), column(DRIVE))
    assert y.flatten().tolist() == [0.75, 1.125, 1.3125, 3.15625, 1.578125, 1.7890625]
    assert state[""]["v"].item() == 1.7890625


def test_residue_of_the_nearest_spike_value():
    """InfLoR-SNN: no leak, threshold 0.5, quantum 1; a neuron that fires at 0.625 keeps -0.375."""
    neuron = sk.IF(threshold=0.5, reset_quantum=1.0)
    y, recorded = sk.record(neuron, column([0.625, 0.75, 0.5]), ["spikes", "membrane"])
    assert y.flatten().tolist() == [1, 0, 1]
    assert recorded["membrane"].flatten().tolist() == [0.625, 0.375, 0.875]


def test_one_beta_and_threshold_a_channel():
    lif = sk.LIF(beta=torch.tensor([0.5, 0.0]), threshold=torch.tensor([1.0, 2.0]))
    x = torch.full((3, 1, 2, 1, 1), 0.75)
    y, recorded = sk.record(lif, x, ["spikes", "membrane"])
    assert recorded["membrane"].flatten(1).tolist() == [[0.75, 0.75], [1.125, 0.75], [0.8125, 0.75]]
    assert y.flatten(1).tolist() == [[0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("reset", "detach", "expected"),
    [
        # x = 1.25, 0.75: u = 1.25 (a spike), then 0.875, or 0.75 after a hard reset. All slopes are 1, beta is 0.5.
        # dL/du[1] = 1, so dL/dv[0] = 0.5; dL/du[0] = 1 + 0.5·dv[0]/du[0].
        ("soft", False, [1.0, 1.0]),  # dv/du = 1 - quantum·1 = 0
        ("soft", True, [1.5, 1.0]),  # dv/du = 1
        ("hard", False, [0.375, 1.0]),  # dv/du = (1 - s) - u·1 = -1.25
        ("hard", True, [1.0, 1.0]),  # dv/du = 1 - s = 0
    ],
)
def test_gradient_of_the_drive(reset, detach, expected):
    lif = sk.LIF(0.5, 1.0, reset, surrogate=sk.surrogate.Rectangle(1.0), detach_reset=detach)
    x = column([1.25, 0.75]).requires_grad_()
    (grad,) = torch.autograd.grad(lif(x).sum(), x)
    assert grad.flatten().tolist() == expected


def test_gradients_of_beta_and_threshold():
    lif = sk.LIF(0.5, 1.0, learn=("beta", "threshold"), surrogate=sk.surrogate.Rectangle(1.0))
    y = lif(column([1.25, 0.75]))
    y.sum().backward()
    # dL/dbeta = dL/du[1]·v[0] = 0.25, times the slope of the sigmoid at 0.5, 0.25.
    assert lif.beta_raw.grad.item() == 0.25 * 0.25
    # dL/dthreshold = -(0.5 + 1) for the two decisions, -0.5 for the quantum of the one reset; exp has slope 1 at 0.
    assert lif.threshold_raw.grad.item() == -2.0
