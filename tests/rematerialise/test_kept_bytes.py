"""checkpoint_time: what autograd keeps for the backward pass."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk


def saved_bytes(forward):
    """Bytes of all storages that autograd keeps for the backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = forward()
    assert y.requires_grad
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}.values())


def test_what_is_kept_shrinks():
    net = sk.Sequential(nn.Linear(8, 32), sk.LIF(), nn.Linear(32, 32), sk.LIF(), nn.Linear(32, 4), sk.LIF())
    x = torch.randn(1600, 2, 8)
    whole = saved_bytes(lambda: net(x))
    assert saved_bytes(lambda: sk.checkpoint_time(net)(x)) < 0.1 * whole
    # All that is left: the input, and a state of 32 + 32 + 4 neurons at each of the 39 boundaries.
    expected = x.nbytes + 39 * 2 * (32 + 32 + 4) * 4
    assert saved_bytes(lambda: sk.checkpoint_time(net, 40)(x)) == expected


def test_what_a_neuron_alone_keeps():
    """Its drive, and one membrane in 32 steps: 4 + 1/8 bytes for each neuron and step, however long the sequence."""
    for steps in (32, 320, 1600):
        x = torch.randn(steps, 2, 50, requires_grad=True)
        kept = saved_bytes(lambda x=x: sk.LIF()(x))
        numbers = 3 * 4  # beta, threshold, quantum, which is the threshold
        assert x.nbytes < kept <= x.nbytes * (1 + 1 / 32) + numbers
