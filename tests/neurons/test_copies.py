"""Networks as objects: copied, pickled, saved, put into inference mode, and never sharing anything."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import spikekit as sk

RESETS = ["soft", "hard", "none"]


def network(reset="soft", learn=("beta", "threshold"), **settings):
    return sk.Sequential(
        nn.Conv2d(2, 3, 3),
        sk.LIF(torch.rand(3) * 0.5 + 0.3, torch.rand(3) + 0.5, reset, learn=learn, **settings),
        nn.Flatten(),
        nn.Linear(3 * 16, 5),
        sk.CUBALIF(torch.rand(5) * 0.5 + 0.3, 0.8, 0.3, reset, learn=learn and ("alpha", *learn), **settings),
        nn.Linear(5, 4),
        sk.RecurrentLIF(4, 0.9, torch.rand(4) * 0.2 + 0.2, reset, bias=True, learn=learn, **settings),
        sk.ALIF(0.9, 0.2, reset, rho=torch.rand(4), learn=learn and (*learn, "rho", "step"), **settings),
        sk.RefractoryLIF(1, 0.9, 0.2, reset, learn=learn, **settings),
        sk.SigmaDelta(0.5, bias=torch.rand(4), learn=learn and "bias"),
        sk.LI(0.7, learn=[name for name in learn if name == "beta"]),
    )


@pytest.fixture
def x():
    return torch.randn(6, 2, 2, 6, 6)


def through_pickle(net):
    return pickle.loads(pickle.dumps(net))


def through_torch_save(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("clone", [copy.deepcopy, through_pickle, through_torch_save])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_copy_computes_the_same(clone, reset, when, x):
    net = network(reset, surrogate=sk.surrogate.Triangle(0.7), inclusive=True, detach_reset=True)
    if when == "after":
        net(x).sum().backward()
        sk.run(net, x)
    twin = clone(net)
    assert repr(twin) == repr(net)
    for one in (net, twin):
        one.zero_grad()
        one(x).square().sum().backward()
    assert torch.equal(net(x), twin(x))
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
        assert p.data_ptr() != q.data_ptr()


@pytest.mark.parametrize("learn", [(), ("beta",), ("beta", "threshold")])
@pytest.mark.parametrize("quantum", [None, 0.4])
def test_state_dict_keeps_behaviour(learn, quantum, x):
    net, other = (network("soft", learn, reset_quantum=quantum) for _ in range(2))
    assert not torch.equal(net(x), other(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(x), other(x))
    assert all(isinstance(value, torch.Tensor) for value in net.state_dict().values())


def test_state_dict_holds_no_membranes(x):
    net = network()
    names = set(net.state_dict())
    sk.run(net, x)
    net(x)
    assert set(net.state_dict()) == names


def test_a_quantum_is_not_lost_when_loading():
    """A network with its own quantum and one without are different networks."""
    with pytest.raises(RuntimeError, match="reset_quantum"):
        sk.LIF().load_state_dict(sk.LIF(reset_quantum=0.5).state_dict())
    with pytest.raises(RuntimeError, match="beta_raw"):
        sk.LIF().load_state_dict(sk.LIF(learn="beta").state_dict())


def test_two_networks_share_nothing(x):
    net = network()
    twin = copy.deepcopy(net)
    alone = twin(x)
    _, state = sk.run(net, x)
    assert torch.equal(twin(x), alone)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert torch.equal(twin(x), alone)
    again, _ = sk.run(twin, x, sk.map_state(torch.zeros_like, state))
    assert torch.equal(again, alone)


def test_a_call_leaves_nothing_behind(x):
    net = network()
    expected = net(x)
    _, state = sk.run(net, x)
    sk.record(net, x)
    sk.run(net, x, state)
    assert torch.equal(net(x), expected)


def test_two_training_steps_need_no_reset(x):
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = (net(x).mean(0) - 1).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.8


def test_inference_mode_then_training(x):
    net = network()
    with torch.inference_mode():
        expected, state = sk.run(net, x)
    y = net(x)
    assert torch.equal(y, expected)
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    # A state made in inference mode cannot take part in training; its copy can.
    y, _ = sk.run(net, x, sk.map_state(torch.clone, state))
    y.sum().backward()


def test_a_state_of_inference_mode_is_refused_in_training(x):
    net = network()
    with torch.inference_mode():
        _, state = sk.run(net, x)
    with pytest.raises(sk.errors.InputError, match=r"(?i)layer 1: .*inference tensors cannot be saved"):
        sk.run(net, x, state)


def test_frozen_network_needs_no_graph(x):
    net = network().requires_grad_(False)
    assert net(x).grad_fn is None
    image = x.requires_grad_()
    net(image).sum().backward()
    assert image.grad.abs().sum() > 0
