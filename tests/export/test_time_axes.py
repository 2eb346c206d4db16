"""Time folded into the batch by hand, in a forward that is read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from tests.export.nets import frames


class Block(nn.Module):
    temporal = True

    def __init__(self, fold):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.pool = nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2)
        self.lif, self.fold = sk.LIF(0.8, 0.3), fold

    def forward(self, x):
        return self.lif(self.fold(self, x))


def chained(self, x):
    return self.pool(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])


def joined(self, x):
    parts = [self.conv(x.flatten(start_dim=0, end_dim=1)), torch.flatten(x, 0, 1)]
    return torch.cat(parts, 1).unflatten(dim=0, sizes=x.shape[:2])


def summed(self, x):
    y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return y * 0.5 + self.conv(x.flatten(0, 1)).unflatten(0, y.shape[:2])


@pytest.mark.parametrize("fold", [chained, joined, summed])
def test_it_is_read(fold):
    net, x = sk.Sequential(Block(fold)).eval(), frames(3, 6)
    found = run_plan(plan(net, x).layers, x)[-1].spikes
    assert torch.equal(found, net.double()(x.double()).flatten(2))
    assert 0 < found.mean() < 1


@pytest.mark.parametrize(
    ("fold", "reason"),
    [
        (lambda self, x: self.conv(x.flatten(0, 1)), "takes images|other axes of time and batch|differs in shape"),
        (lambda self, x: x + x.flatten(0, 1), "joins values with time folded into the batch and others without"),
        (lambda self, x: x.flatten(0, 1).unflatten(0, (9, 6)), r"unflatten can be read as y.unflatten\(0, x.shape"),
        (lambda self, x: x.unflatten(2, (1, 2)), r"unflatten can be read as y.unflatten\(0, x.shape"),
        (lambda self, x: x * x.shape[0], r"of a shape only x.shape\[:2\] can be read"),
        (lambda self, x: x.flatten(1, 2), "axis 1 is time or batch"),
        (lambda self, x: x.flatten(0, 1).shape, "getattr cannot be read"),
    ],
)
def test_what_else_touches_time_and_batch_is_refused(fold, reason):
    with pytest.raises(ExportError, match=reason):
        plan(sk.Sequential(Block(fold)).eval(), frames())


def test_taken_apart_they_share_memory():
    def fold(self, x):
        y = self.conv(x.flatten(0, 1))
        z = y.unflatten(0, x.shape[:2])
        z += 1
        return y.unflatten(0, x.shape[:2])

    with pytest.raises(ExportError, match="has changed in place"):
        plan(sk.Sequential(Block(fold)).eval(), frames())


def test_a_forward_ends_as_it_began():
    class Folds(nn.Module):
        temporal = True

        def forward(self, x):
            return x.flatten(0, 1)

    with pytest.raises(ExportError, match="gives other axes of time and batch than it takes"):
        plan(sk.Sequential(Folds(), sk.LIF()).eval(), frames())
