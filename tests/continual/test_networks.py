"""Networks of all kinds keep their old answers: convolutions, shared layers, recurrence, normalisation, heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD

import spikekit as sk
from spikekit import continual as cl
from tests.continual.nets import BATCH, X, build, cross_entropy, drive, lively, teach

CONVOLUTIONS = {
    "stride": {"stride": 2},
    "padding": {"padding": 2},
    "dilation": {"dilation": 2, "padding": (0, 1)},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "oblong": {"kernel_size": (3, 1), "stride": (1, 2), "padding": (0, 1)},
}


def convolutions(**settings):
    torch.manual_seed(5)
    first = nn.Conv2d(2, 16, bias=False, **{"kernel_size": 3} | settings)
    second = nn.Conv2d(16, 4, 3, padding=1, bias=False)
    places = second(first(torch.zeros(1, 2, 6, 6))).numel()
    layers = (first, sk.LIF(0.5), second, sk.LIF(0.5), nn.Flatten(), nn.Linear(places, 3, bias=False))
    return lively(sk.Sequential(*layers))


def twice():
    """One layer at two places, which sees the inputs of both."""
    torch.manual_seed(5)
    shared = nn.Linear(40, 40, bias=False)
    layers = (nn.Linear(12, 40, bias=False), sk.LIF(0.5), shared, sk.LIF(0.5), shared, sk.LIF(0.5), nn.Linear(40, 3))
    return lively(sk.Sequential(*layers))


def recurrent():
    torch.manual_seed(5)
    return lively(sk.Sequential(nn.Linear(12, 40, bias=False), sk.RecurrentLIF(40, 0.5), nn.Linear(40, 3)))


def normalised(norm):
    torch.manual_seed(5)
    neurons = (nn.BatchNorm1d(40), sk.LIF(0.5)) if norm == "batch" else (sk.LIF(0.5, norm=sk.MPBN(40)),)
    net = lively(sk.Sequential(nn.Linear(12, 40, bias=False), *neurons, nn.Linear(40, 3, bias=False)))
    for _ in range(20):
        net(drive("mlp", 1))
    return net.eval()


def pieces():
    return sk.checkpoint_time(build("mlp"), 2)


NETWORKS = {
    **{name: ("conv", lambda settings=settings: convolutions(**settings)) for name, settings in CONVOLUTIONS.items()},
    "a layer used twice": ("mlp", twice),
    "recurrent": ("mlp", recurrent),
    "batch normalisation": ("mlp", lambda: normalised("batch")),
    "MPBN": ("mlp", lambda: normalised("membrane")),
    "checkpoint_time": ("mlp", pieces),
}


@pytest.mark.parametrize("project", ["auto", "gradient", "update"])
@pytest.mark.parametrize(("kind", "make"), NETWORKS.values(), ids=NETWORKS)
def test_old_outputs_do_not_change(kind, make, project):
    net = make()
    hlop = cl.HLOP(net, 0, project=project)
    old, new = drive(kind, 1), drive(kind, 2)
    teach(hlop, old)
    with torch.no_grad():
        before, fresh = net(old), net(new)
    for _ in range(10):
        hlop.step(new, cross_entropy, SGD(hlop.parameters(), lr=0.1))
    with torch.no_grad():
        assert (net(old) - before).abs().max() < 1e-12
        assert (net(new) - fresh).abs().max() > 1e-3


def test_recurrent_weights_rest_from_the_second_task_on():
    net = recurrent()
    hlop = cl.HLOP(net, 2)
    assert set(hlop.spaces) == {"0", "2"}
    weight = net[1].recurrent.weight
    for rests in (False, True):
        before = weight.detach().clone()
        hlop.begin_task()
        hlop.step(X, cross_entropy, SGD(hlop.parameters(), lr=0.1))
        hlop.end_task()
        assert torch.equal(weight, before) == rests


def test_a_layer_that_does_not_learn_gets_no_units():
    net = build("mlp")
    net[0].weight.requires_grad_(False)
    hlop = cl.HLOP(net, 2)
    for units in (2, 4):
        hlop.begin_task()
        hlop.step(X, cross_entropy, SGD(hlop.parameters(), lr=0.1))
        hlop.end_task()
        assert hlop.units == {"0": 0, "2": units, "4": units}


class Heads(nn.Module):
    """A head a task, of which one is called."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.body = sk.Sequential(nn.Linear(12, 40, bias=False), sk.LIF(0.5))
        self.heads = nn.ModuleList([nn.Linear(40, 3, bias=False) for _ in range(3)])
        self.task = 0

    def forward(self, x):
        return self.heads[self.task](self.body(x))


@pytest.mark.parametrize("make", [lambda net: cl.HLOP(net, 3), cl.GPM], ids=["hlop", "gpm"])
def test_a_head_is_protected_from_its_own_task_on(make):
    net = lively(Heads())
    method = make(net)
    for task in range(3):
        net.task = task
        method.begin_task()
        assert not len(method.spaces[f"heads.{task}"].old)
        before = net.heads[task].weight.detach().clone()
        method.step(X, cross_entropy, SGD(method.parameters(), lr=0.1))
        assert not torch.equal(net.heads[task].weight, before)
        method.end_task([BATCH])
        kept = [len(method.spaces[f"heads.{head}"].old) > 0 for head in range(3)]
        assert kept == [head <= task for head in range(3)]
    if isinstance(method, cl.HLOP):
        # Of its own task each, and none of those in which another was called.
        assert method.units == {"body.0": 9, "heads.0": 3, "heads.1": 3, "heads.2": 3}
