"""What the comparisons with live peers share: the peer where it is installed, its neurons over time, equal spikes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn


def load(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason="`make bench` makes an environment that has the peers")


def unroll(neuron, x):
    spikes, state = [], ()
    for step in x.unbind(0):
        spike, *state = neuron(step, *state)
        spikes.append(spike)
    return torch.stack(spikes)


def unroll_snntorch(neuron, x):
    return torch.stack([neuron(step)[0] for step in x.unbind(0)])


@torch.no_grad()
def equal(ours, theirs):
    assert 0.01 < ours.mean() < 0.99
    assert torch.equal(ours, theirs), f"{int((ours != theirs).sum())} of {ours.numel()} spikes differ"


def conv_net(neuron):
    torch.manual_seed(0)
    return [nn.Conv2d(2, 5, 3), neuron], 3 * torch.rand(30, 3, 2, 7, 7)


SHAPES = [(5,), (5, 1), (5, 1, 1), (1, 5, 1, 1), (5, 5, 5), (1,)]
