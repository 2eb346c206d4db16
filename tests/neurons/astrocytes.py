"""A neuron with astrocytes that do something, and what it is given."""

from __future__ import annotations

import torch

import spikekit as sk

ACTS = ("gain", "threshold", "plasticity")
SENSES = ("post", "pre", "both")
RESETS = ("soft", "hard", "none")


def neuron(acts_on="gain", senses="post", strength=0.5, reset="soft", **settings):
    weight = torch.tensor([[2.0, -3.0], [4.0, 1.0], [-5.0, 2.0]])
    astrocyte = sk.Astrocyte(3, (4.0, 30.0), acts_on, senses, strength, weight=weight, bias=0.1)
    return sk.LIF(0.9, 0.6, reset, learn=("beta", "threshold"), astrocyte=astrocyte, **settings)


def drive(steps=20, batch=3, *shape):
    return torch.randn(steps, batch, *(shape or (6,))) * 0.6 + 0.3


def spikes(x, channels=9):
    return (torch.rand(*x.shape[:2], channels) < 0.3).to(x.dtype)


def call(lif, x, before):
    return lif(x) if lif.astrocyte.senses == "post" else lif(x, presynaptic=before)
