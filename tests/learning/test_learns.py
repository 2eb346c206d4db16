"""Every rule, with every kind of feedback, learns to tell three synthetic patterns of spike rates apart."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.learning import BPTT, DSR, OTTT, feedback_alignment, sign_symmetry
from spikekit.train import CrossEntropy

BETA = math.exp(-0.05)


@pytest.mark.parametrize("rule", [BPTT(), OTTT(), OTTT(every_step=True), DSR()], ids=str)
@pytest.mark.parametrize("change", [lambda net: net, feedback_alignment, sign_symmetry])
def test_it_learns(rule, change):
    rates = torch.rand(3, 20) * 0.8

    def draw(samples):
        target = torch.arange(samples) % 3
        return (torch.rand(20, samples, 20) < rates[target]).float(), target

    lif = partial(sk.LIF, BETA, 0.3, reset_quantum=1.0)
    net = change(sk.Sequential(nn.Linear(20, 40), lif(), nn.Linear(40, 40), lif(), nn.Linear(40, 3)))
    below = [p.detach().clone() for p in (net[0].weight, net[2].weight)]
    optimizer = torch.optim.Adam(net.parameters(), 1e-3 if rule == OTTT(every_step=True) else 5e-3)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(40):
        x, target = draw(48)
        rule(net, x, partial(CrossEntropy(), target=target), update=update)
    x, target = draw(300)
    with torch.no_grad():
        assert (net(x).mean(0).argmax(-1) == target).float().mean() > 0.9
        for layer, weight in zip((net[0], net[2]), below, strict=True):
            assert (layer.weight - weight).abs().max() > 1e-3
