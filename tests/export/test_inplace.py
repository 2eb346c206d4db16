"""Operations in place in a forward of the user's own: read where nothing else sees them, refused by name elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)
        self.lif, self.lif2, self.out = sk.LIF(0.8, 0.2), sk.LIF(0.7, 0.2), sk.LIF(0.9, 0.4)
        self.idle, self.own = nn.Sequential(nn.Identity(), nn.Dropout()), Mine()


class Mine(nn.Module):
    def forward(self, x):
        return x


def binary():
    return (torch.rand(5, 4, 12, generator=torch.Generator().manual_seed(0)) < 0.5).double()


def net_of(forward):
    return type("Net", (Own,), {"forward": forward})().double().eval()


def fresh(self, x):
    y = self.lif(self.one(x))
    z = self.two(y)
    z += y
    z /= 2
    z -= 0.1
    z *= 3
    return self.out(z.add_(x))


def test_what_nothing_else_sees_is_read():
    net, x = net_of(fresh), binary()
    layers = plan(net, x).layers
    with torch.no_grad():
        assert torch.equal(run_plan(layers, x)[-1].spikes, net(x))


def alias(self, x):
    y = self.lif(self.one(x))
    z = y
    z += self.lif2(self.two(y))
    return self.out(y + z)


def older(self, x):
    y = self.lif(self.one(x))
    z = self.two(y)
    w = z.flatten(2)
    z += 1
    return self.out(w)


def unused(self, x):
    y = self.lif(self.one(x))
    y.add_(self.two(y))
    return self.out(y)


def through_idle(self, x):
    y = self.lif(self.one(x))
    z = self.idle(y)
    z *= 2
    return self.out(self.two(z) + y)


def halved(self, x):
    y = self.lif(self.one(x))
    z = self.idle(y)
    z /= 2
    return self.out(self.two(z) + y)


def own_input(self, x):
    x -= 0.5
    return self.out(self.one(x))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (alias, "Net: add uses a tensor that iadd has changed in place; write y = y"),
        (older, "Net: out uses a tensor that iadd has changed in place"),
        (unused, "Net: out uses a tensor that add_ has changed in place"),
        (through_idle, "Net: add uses a tensor that imul has changed in place"),
        (halved, "Net: add uses a tensor that itruediv has changed in place"),
        (own_input, "Net: isub changes the input of the forward in place"),
    ],
)
def test_what_something_else_sees_is_refused(forward, message):
    with pytest.raises(ExportError, match=message):
        plan(net_of(forward), binary())


def through_own(self, x):
    y = self.lif(self.one(x))
    z = self.own(y)
    z += 1
    return self.out(self.two(z) + y)


def test_what_slips_through_is_found_by_the_drives():
    """Whether a module of the user's own returns its input, its graph does not tell."""
    with pytest.raises(ExportError, match="does not repeat the network: layer out: its drive differs"):
        plan(net_of(through_own), binary())
