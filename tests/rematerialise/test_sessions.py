"""checkpoint_time inside `sk.run` and `sk.record`: states and traces are whole."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import StateError
from tests.rematerialise.nets import Residual, chain, gradients, in_pieces


def test_run_carries_on_inside_and_across(x):
    net = sk.Sequential(sk.checkpoint_time(Residual(), 3), nn.Linear(6, 2), sk.LI(0.5)).double()
    plain = sk.Sequential(net[0].module, *net[1:])
    expected, expected_grads = gradients(plain, x)
    _, state = sk.run(net, x)
    assert set(state) == {"0.module.lif", "0.module.lif#2", "0.module.inner.1", "2"}

    torch.testing.assert_close(gradients(net, x, in_pieces(net, 5)), (expected, expected_grads), rtol=1e-12, atol=1e-12)
    again = pickle.loads(pickle.dumps(sk.map_state(torch.detach, state)))
    torch.testing.assert_close(sk.run(net, x, again)[0], sk.run(net, x, state)[0])


def test_states_of_another_network_are_refused(x):
    net = sk.checkpoint_time(chain().double(), 4)
    _, state = sk.run(net, x)
    with pytest.raises(StateError, match=r"no entry for 'module\.1'"):
        sk.run(net, x, {"1": state["module.1"]})
    with pytest.raises(StateError, match=r"did not use: \['other'\]"):
        sk.run(net, x, {**state, "other": {"v": x[0]}})


def test_record_keeps_whole_traces_with_their_gradients(x):
    net = chain().double()
    names = ["1.spikes", "1.membrane", "3.drive"]
    y, expected = sk.record(net, x, names)
    z, traces = sk.record(sk.checkpoint_time(net, 4), x, [f"module.{name}" for name in names])
    for name in names:
        trace, wanted = traces[f"module.{name}"], expected[name]
        torch.testing.assert_close(trace, wanted, rtol=0, atol=1e-12)
    grads = torch.autograd.grad((z * traces["module.1.membrane"]).sum(), [x, *net.parameters()])
    wanted = torch.autograd.grad((y * expected["1.membrane"]).sum(), [x, *net.parameters()])
    torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)


def test_calls_are_numbered_as_without_pieces(x):
    class Twice(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.net = wrap(Residual())

        def forward(self, x):
            return self.net(self.net(x))

    torch.manual_seed(0)
    plain = Twice(lambda net: net).double()
    torch.manual_seed(0)
    pieces = Twice(lambda net: sk.checkpoint_time(net, 4)).double()
    _, expected = sk.record(plain, x)
    _, traces = sk.record(pieces, x)
    assert [name.replace("module.", "") for name in traces] == list(expected)
    assert "net.lif#4.spikes" in expected
    for trace, wanted in zip(traces.values(), expected.values(), strict=True):
        assert torch.equal(trace, wanted)
    first, state = sk.run(pieces, x[:6])
    assert torch.equal(torch.cat([first, sk.run(pieces, x[6:], state)[0]]), plain(x))
