"""checkpoint_time: the outputs and gradients of the network itself, whatever the length of a piece."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit import rematerialise
from tests.rematerialise.nets import NETS, B, Recurrent, T, chain, gradients


@pytest.mark.parametrize("chunk", [1, 4, 13, 100, None])
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_are_those_of_the_network(name, chunk, x):
    net = NETS[name]().double()
    expected, expected_grads = gradients(net, x)
    y, grads = gradients(net, x, sk.checkpoint_time(net, chunk))
    assert expected.any()
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert wanted.any()
        torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)


def test_a_neuron_alone_is_equal_bit_for_bit(x):
    net = sk.LIF(0.5, 0.5, "none")
    (y, (grad,)), (wanted, (wanted_grad,)) = gradients(sk.checkpoint_time(net, 4), x), gradients(net, x)
    assert torch.equal(y, wanted)
    assert torch.equal(grad, wanted_grad)


def test_none_is_the_root_of_t_rounded_up(x):
    lengths = []

    class Counts(nn.Module):
        def forward(self, x):
            lengths.append(len(x))
            return x

    wrapped = sk.checkpoint_time(Counts())
    for steps in (1, 2, 9, 10):
        wrapped(x[:steps])
    assert lengths == [1, 2, 3, 3, 3, 4, 4, 2]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_checkpointed(mode, x, monkeypatch):
    monkeypatch.setattr(rematerialise, "checkpoint", None)
    net = Recurrent().double()
    with mode():
        torch.testing.assert_close(sk.checkpoint_time(net, 4)(x), net(x), rtol=0, atol=1e-12)


def test_several_outputs(x):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = sk.LIF()

        def forward(self, x):
            spikes = self.lif(x)
            return {"spikes": spikes, "counts": spikes.sum(2)}

    y = sk.checkpoint_time(Two(), 4)(x)
    assert {name: tuple(v.shape) for name, v in y.items()} == {"spikes": (T, B, 6), "counts": (T, B)}
    assert torch.equal(y["spikes"], sk.LIF()(x))


def test_copies_and_checkpoints(x):
    net = chain().double()
    wrapped = sk.checkpoint_time(net, 4)
    y = wrapped(x)
    for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert torch.equal(other(x), y)
        assert other.chunk == 4
    fresh = chain().double()
    fresh.load_state_dict(wrapped.module.state_dict())
    assert torch.equal(fresh(x), net(x))
    assert set(wrapped.state_dict()) == {f"module.{name}" for name in net.state_dict()}
    assert "chunk=4" in repr(wrapped)
