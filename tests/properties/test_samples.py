"""What one sample gives does not depend on the others, on their order, or on the memory it lies in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spikekit as sk

neurons = st.sampled_from(
    [
        sk.LIF(0.9),
        sk.LIF(torch.tensor([0.2, 0.5, 0.99]), torch.tensor([0.5, 1.0, 0.7]), "hard"),
        sk.LIF(0.5, reset="none", inclusive=True),
        sk.IF(0.5, reset_quantum=1.0),
        sk.LI(0.7),
        sk.CUBALIF(torch.tensor([0.3, 0.6, 0.9]), 0.8, torch.tensor([0.5, 1.0, 0.7])),
        sk.CUBALIF(0.4, 0.9, reset="hard", inclusive=True),
        sk.RecurrentLIF(12, 0.9, bias=True),
        sk.RecurrentLIF(12, torch.linspace(0.2, 0.9, 12), reset="hard"),
        sk.ALIF(0.9, 0.5, rho=torch.tensor([0.3, 0.6, 0.9]), step=0.4),
        sk.RefractoryLIF(2, 0.9, torch.tensor([0.5, 1.0, 0.7]), "hard"),
        sk.SigmaDelta(torch.tensor([0.5, 1.0, 0.7])),
    ]
)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


def drive(neuron, steps, batch, dtype):
    x = (torch.randn(steps, batch, 3, 2, 2) + 0.3).to(dtype)
    return x.flatten(2) if isinstance(neuron, sk.RecurrentLIF) else x


@given(neurons, dtypes, st.permutations(range(5)), st.integers(0, 2**31))
def test_a_neuron_is_equivariant_to_the_order_of_the_batch(neuron, dtype, order, seed):
    torch.manual_seed(seed)
    x = drive(neuron, 6, 5, dtype)
    assert torch.equal(neuron(x[:, order]), neuron(x)[:, order])


@given(neurons, dtypes, st.integers(0, 4), st.integers(0, 2**31))
def test_a_sample_alone_gives_what_it_gives_in_a_batch(neuron, dtype, sample, seed):
    torch.manual_seed(seed)
    x = drive(neuron, 6, 5, dtype)
    y, state = sk.run(neuron, x)
    alone, alone_state = sk.run(neuron, x[:, sample : sample + 1])
    assert torch.equal(alone, y[:, sample : sample + 1])
    for name, value in state[""].items():
        assert torch.equal(alone_state[""][name], value[sample : sample + 1])


@given(neurons, dtypes, st.permutations(range(5)), st.integers(0, 2**31))
def test_memory_order_does_not_change_a_bit(neuron, dtype, axes, seed):
    torch.manual_seed(seed)
    x = drive(neuron, 4, 3, dtype)
    axes = [axis for axis in axes if axis < x.ndim]
    turned = x.permute(axes).contiguous().permute([axes.index(axis) for axis in range(x.ndim)])
    assert turned.shape == x.shape
    assert torch.equal(neuron(turned), neuron(x))


@pytest.mark.parametrize("seed", range(5))
def test_a_convolutional_network_is_equivariant(seed):
    torch.manual_seed(seed)
    net = sk.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), sk.LIF(0.8), nn.Flatten(), nn.Linear(64, 5), sk.LI())
    net = net.double().eval()
    x = torch.randn(7, 6, 2, 6, 6, dtype=torch.float64)
    order = torch.randperm(6)
    y, recorded = sk.record(net, x)
    permuted, permuted_recorded = sk.record(net, x[:, order])
    assert torch.equal(permuted_recorded["2.spikes"], recorded["2.spikes"][:, order])
    torch.testing.assert_close(permuted, y[:, order], rtol=1e-12, atol=1e-12)


@given(neurons, dtypes, st.tuples(st.integers(1, 5), st.integers(1, 3)))
def test_zero_in_zero_out(neuron, dtype, size):
    x = torch.zeros_like(drive(neuron, *size, dtype))
    y, state = sk.run(neuron, x)
    assert not y.any()
    assert not any(value.any() for value in state[""].values())


def test_a_network_without_bias_is_silent_in_silence():
    net = sk.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), sk.LIF(0.8), nn.Flatten(), nn.Linear(64, 5, bias=False), sk.LI()
    )
    assert not net(torch.zeros(5, 2, 2, 6, 6)).any()


@given(neurons, dtypes, st.booleans(), st.integers(0, 2**31))
def test_nothing_that_goes_in_is_changed(neuron, dtype, grad, seed):
    torch.manual_seed(seed)
    x = drive(neuron, 4, 2, dtype)
    _, state = sk.run(neuron, x)
    copies = x.clone(), sk.map_state(torch.clone, state), {k: v.clone() for k, v in neuron.state_dict().items()}
    x.requires_grad_(grad)
    y, _ = sk.run(neuron, x, state)
    if grad:
        y.float().sum().backward()
    # Nor is it handed out again: what a caller does to the output reaches neither the input nor the state.
    y, later = sk.run(neuron, x, state)
    kept = sk.map_state(torch.clone, later)
    y.detach().fill_(7)
    torch.testing.assert_close(later, kept, rtol=0, atol=0)
    assert torch.equal(x, copies[0])
    torch.testing.assert_close(state, copies[1], rtol=0, atol=0)
    for name, value in neuron.state_dict().items():
        assert torch.equal(value, copies[2][name])


def test_the_gradient_handed_in_is_not_changed():
    plain = (sk.LIF(), sk.LIF(reset="hard"), sk.LI(), sk.CUBALIF(), sk.RecurrentLIF(3))
    for neuron in (*plain, sk.ALIF(), sk.RefractoryLIF(1), sk.SigmaDelta(0.5)):
        x = torch.randn(4, 2, 3, requires_grad=True)
        y, state = sk.run(neuron, x)
        # A countdown and a residue have no gradient.
        outputs = [value for value in (y, *state[""].values()) if value.requires_grad]
        grads = [torch.randn_like(output) for output in outputs]
        copies = [g.clone() for g in grads]
        torch.autograd.backward(outputs, grads)
        assert all(torch.equal(g, c) for g, c in zip(grads, copies, strict=True))


@given(neurons, dtypes, st.integers(0, 2**31))
def test_spikes_are_zero_or_one(neuron, dtype, seed):
    torch.manual_seed(seed)
    y = neuron(drive(neuron, 6, 5, dtype) * 3)
    if neuron.spiking:
        assert ((y == 0) | (y == 1)).all()


def test_same_seed_same_spikes():
    def once():
        torch.manual_seed(3)
        net = sk.Sequential(nn.Linear(6, 8), sk.LIF(), nn.Dropout(0.5), nn.Linear(8, 3), sk.LIF(0.5))
        y = net(torch.randn(9, 4, 6))
        y.sum().backward()
        return y, [p.grad for p in net.parameters()]

    (y, grads), (z, others) = once(), once()
    assert torch.equal(y, z)
    assert all(torch.equal(g, h) for g, h in zip(grads, others, strict=True))
