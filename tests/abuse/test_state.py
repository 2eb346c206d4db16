"""States that do not belong here: a StateError that names the entry, and the network works as before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError, StateError
from spikekit.state import active


class Counter(nn.Module):
    """A loop with a carry and no neuron in it, so that nothing else checks the batch."""

    def forward(self, x):
        return sk.scan(self, lambda c, x_t: (c + x_t[0], x_t + c), x, torch.zeros_like(x[0]))[0]


@pytest.fixture
def x():
    return torch.randn(4, 2, 3)


@pytest.fixture
def net(x):
    net = sk.Sequential(nn.Linear(3, 4), sk.LIF(), nn.Linear(4, 2), sk.LI()).requires_grad_(False)
    expected = net(x)
    yield net
    assert active() is None
    assert torch.equal(net(x), expected)
    assert torch.equal(sk.run(net, x)[0], expected)


@pytest.fixture
def state(net, x):
    return sk.run(net, x)[1]


def refuses(net, x, state, match):
    for call in (sk.run, lambda net, x, state: sk.record(net, x, state=state)):
        with pytest.raises(StateError, match=match):
            call(net, x, state)


def test_of_another_batch(net, x, state):
    match = r"^layer 1: state of '1' \(LIF\): v is of a batch of 2, the input has B = 3 \(axis 1\).*sk.map_state"
    refuses(net, torch.randn(4, 3, 3), state, match)


def test_of_a_batch_that_would_broadcast(net, x):
    _, state = sk.run(net, x[:, :1])
    refuses(net, x, state, "v is of a batch of 1, the input has B = 2")


def test_of_another_layer_size(net, x, state):
    state["1"] = {"v": torch.zeros(2, 5)}
    refuses(net, x, state, r"'1' \(LIF\): v has the shape \(2, 5\), the drive needs \(2, 4\).*another network")


def test_of_another_dtype(net, x, state):
    match = r"v is torch.float64 on cpu, the drive needs torch.float32 on cpu.*sk.map_state\(lambda v: v.to"
    refuses(net, x, sk.map_state(torch.Tensor.double, state), match)


def test_of_another_device(net, x, state):
    refuses(net, x, sk.map_state(lambda v: v.to("meta"), state), "v is torch.float32 on meta, the drive needs")


def test_half_precision_state(net, x, state):
    refuses(net, x, sk.map_state(torch.Tensor.bfloat16, state), "v is torch.bfloat16 on cpu")


def test_of_another_network(net, x):
    _, state = sk.run(sk.Sequential(sk.LIF(), nn.Linear(3, 2), sk.LI()), x)
    refuses(net, x, state, r"^layer 1: .* no entry for '1'; it has \['0', '2'\].*another network: pass state=None")


def test_with_entries_left_over(net, x, state):
    refuses(net, x, state | {"7": {"v": torch.zeros(2, 4)}}, r"entries this network did not use: \['7'\]")


def test_with_an_entry_missing(net, x, state):
    refuses(net, x, {"1": state["1"]}, r"^layer 3: .* no entry for '3'; it has \['1'\]")


def test_empty(net, x):
    refuses(net, x, {}, r"no entry for '1'; it has \[\]")


@pytest.mark.parametrize("wrong", [torch.zeros(2, 4), [1], "rest", 0], ids=lambda value: type(value).__name__)
def test_not_a_state(net, x, wrong):
    refuses(net, x, wrong, f"^the state must be None or what run.. returned, got {type(wrong).__name__}")


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (torch.zeros(2, 4), r"\[Tensor\]"),
        ({}, r"\[\]"),
        ({"v": None}, r"\[v NoneType\]"),
        ({"v": [0.0]}, r"\[v list\]"),
        ({"v": torch.zeros(2, 4), "w": torch.zeros(2, 4)}, r"\[v Tensor, w Tensor\]"),
    ],
    ids=["tensor", "empty", "None", "list", "one too many"],
)
def test_not_an_entry(net, x, state, entry, found):
    refuses(net, x, state | {"1": entry}, rf"state of '1' \(LIF\): it must hold the tensors \['v'\], got {found}")


@pytest.mark.parametrize(
    ("neuron", "names"),
    [
        (sk.CUBALIF(), ("i", "v")),
        (sk.RecurrentLIF(3), ("v", "s")),
        (sk.ALIF(), ("v", "a")),
        (sk.RefractoryLIF(2), ("v", "r")),
    ],
    ids=["current", "recurrent", "adaptive", "refractory"],
)
def test_of_a_plain_lif_in_a_neuron_with_two_states(neuron, names, x):
    _, plain = sk.run(sk.LIF(), x)
    refuses(neuron, x, plain, rf"must hold the tensors \['{names[0]}', '{names[1]}'\], got \[v Tensor\]")
    _, state = sk.run(neuron, x)
    for name in names:
        wrong = {"": state[""] | {name: torch.zeros(1, 3)}}
        refuses(neuron, x, wrong, f"{name} is of a batch of 1, the input has B = 2")


def test_not_finite(net, x, state):
    state["1"]["v"][0, 0] = float("nan")
    refuses(net, x, state, r"^layer 1: LIF\(.*the state it was given holds values that are not finite")


def test_an_error_in_the_middle_of_a_stream_loses_nothing(net, x, state):
    whole = net(torch.cat([x, x]))
    kept = sk.map_state(torch.clone, state)
    bad = x.clone()
    bad[2, 0, 0] = float("inf")
    with pytest.raises(InputError, match=r"^layer 1: LIF\("):
        sk.run(net, bad, state)
    torch.testing.assert_close(state, kept, rtol=0, atol=0)
    y, _ = sk.run(net, x, state)
    torch.testing.assert_close(y, whole[4:])


def test_a_carry_of_another_batch(x):
    """The carry of a scan would broadcast from a batch of one without a word."""
    loop = Counter()
    _, state = sk.run(loop, x[:, :1])
    refuses(loop, x, state, r"'\.scan' \(scan\): the carry has the shape \(1, 3\), the input has B = 2 \(axis 1\)")
    refuses(loop, x, {".scan": {"v": torch.zeros(2, 3)}}, r"'\.scan' \(scan\): it is not the state of a scan")
    assert torch.equal(sk.run(loop, x)[0], loop(x))


def test_a_readout_state_in_a_lone_neuron(x):
    refuses(sk.LIF(), x, {"": {"v": torch.zeros(3, 3)}}, "^state of 'the network' .LIF.: v is of a batch of 3")
