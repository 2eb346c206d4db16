"""How sk.Sequential and sk.fold_time call nn.Linear: by events where nothing listens, else as a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear as dense
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook
from torch.nn.utils.parametrizations import weight_norm

import spikekit as sk
from spikekit import layers
from spikekit.errors import InputError


@pytest.fixture
def by_events(monkeypatch):
    """The weights of the layers that were called without their module."""
    seen = []
    fast = layers.linear
    monkeypatch.setattr(layers, "linear", lambda x, w, b: seen.append(w) or fast(x, w, b))
    return seen


def test_plain_linear_layers_go_the_fast_way(by_events):
    linear = nn.Linear(6, 4)
    x = torch.randn(3, 2, 6)
    expected = dense(x, linear.weight, linear.bias)
    for net in (sk.Sequential(linear), sk.fold_time(linear), sk.Sequential(nn.Sequential(nn.Identity(), linear))):
        torch.testing.assert_close(net(x), expected)
        assert by_events.pop() is linear.weight


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def own_forward():
    layer = nn.Linear(6, 4)
    layer.forward = lambda x: x[:, :4]
    return layer


@pytest.mark.parametrize("make", [lambda: Doubled(6, 4), own_forward, lambda: weight_norm(nn.Linear(6, 4))])
def test_layers_that_do_something_else_are_called(by_events, make):
    layer = make()
    x = torch.randn(3, 2, 6)
    assert torch.equal(sk.Sequential(layer)(x), layer(x.flatten(0, 1)).unflatten(0, (3, 2)))
    assert not by_events


HOOKS = {
    "forward": lambda layer, hook: layer.register_forward_hook(hook),
    "forward pre": lambda layer, hook: layer.register_forward_pre_hook(hook),
    "backward": lambda layer, hook: layer.register_full_backward_hook(hook),
    "backward pre": lambda layer, hook: layer.register_full_backward_pre_hook(hook),
    "all forward": lambda layer, hook: register_module_forward_hook(hook),
    "all backward": lambda layer, hook: register_module_full_backward_hook(hook),
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("nested", [False, True])
def test_hooks_are_called(by_events, kind, nested):
    called = []
    layer = nn.Linear(6, 4)
    handle = HOOKS[kind](layer, lambda module, *args: called.append(module))
    try:
        net = sk.Sequential(nn.Sequential(layer) if nested else layer)
        net(torch.randn(3, 2, 6, requires_grad=True)).sum().backward()
    finally:
        handle.remove()
    assert layer in called
    assert not by_events
    net(torch.randn(3, 2, 6))
    assert by_events


def test_hooks_of_a_plain_sequential_are_called(by_events):
    called = []
    chain = nn.Sequential(nn.Linear(6, 4))
    chain.register_forward_hook(lambda *args: called.append(1))
    sk.Sequential(chain)(torch.randn(3, 2, 6))
    assert called == [1]


def test_errors_still_name_the_layer():
    net = sk.Sequential(nn.Linear(256, 256), sk.LIF(), nn.Linear(200, 4))
    with pytest.raises(InputError, match=r"^layer 2: Linear\(.*it needs 200 features on the last axis, got 256"):
        net(torch.zeros(20, 32, 256))
    with pytest.raises(InputError, match=r"^layer 0: .*float64"):
        net(torch.zeros(20, 32, 256, dtype=torch.float64))


def network():
    return sk.Sequential(nn.Linear(200, 256), sk.LIF(), nn.Linear(256, 256), sk.LIF(), nn.Linear(256, 5), sk.LI())


def test_pieces_of_a_sequence_are_the_whole():
    net, x = network(), (torch.rand(60, 32, 200) < 0.1).float()
    with torch.no_grad():
        whole = net(x)
        state, pieces = None, []
        for piece in x.split(20):
            y, state = sk.run(net, piece, state)
            pieces.append(y)
    assert torch.equal(torch.cat(pieces), whole)


def test_a_network_learns_by_events(by_events):
    torch.manual_seed(3)
    net = network()
    labels = torch.arange(30) % 5
    x = (torch.rand(25, 30, 200) < 0.02 + 0.2 * (torch.arange(200) % 5 == labels[:, None])).float()
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(x).mean(0), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert len(by_events) == 36
