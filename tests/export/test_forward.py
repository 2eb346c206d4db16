"""Forwards of the user's own: what may stand in them without changing what is exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export.plan import plan


class Block(nn.Module):
    temporal = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(6, 5), sk.LIF(0.8, 0.3)

    def drive(self, x):
        return self.fc(x)


class Defaults(Block):
    def forward(self, x, scale=2.0, mask=None, twice=False, *more, shift=0.25, **named):
        drive = self.drive(x) * scale + shift
        drive = drive if mask is None else drive * mask
        return self.lif(drive * 2 if twice else drive)


class Dropped(Block):
    def forward(self, x):
        y = F.dropout(self.drive(x), 0.5, self.training)
        return self.lif(F.dropout1d(y, p=0.2, training=self.training))


class Detached(Block):
    def forward(self, x):
        return self.lif(torch.detach(self.drive(x).detach()))


def drive(block, x):
    """What drives the neurons of the plan of a network with the block."""
    layer = plan(sk.Sequential(block).eval(), x).layers[0]
    return layer.inputs[0].synapses.apply(x.flatten(0, 1).double()) + torch.from_numpy(layer.bias)


@pytest.mark.parametrize("kind", [Defaults, Dropped, Detached])
def test_what_changes_nothing_is_read(kind):
    x = (torch.rand(4, 2, 6) < 0.5).float()
    block = kind().double().eval()
    seen = []
    block.lif.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    block(x.double())
    torch.testing.assert_close(drive(kind(), x), seen[0].flatten(0, 1))


class Always(Block):
    def forward(self, x):
        return self.lif(F.dropout(self.drive(x), 0.5))


class Two(Block):
    def forward(self, x, y):
        return self.lif(self.drive(x) + y)


class PassesMore(Block):
    def __init__(self):
        super().__init__()
        self.inner = Defaults()

    def forward(self, x):
        return self.inner(x, 3.0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Always, r"drops in eval mode too; write F.dropout\(x, p, self.training\)"),
        (Two, "more than one input"),
        (PassesMore, "more than the one tensor"),
    ],
)
def test_what_changes_something_is_refused(kind, reason):
    with pytest.raises(ExportError, match=reason):
        plan(sk.Sequential(kind()).eval(), torch.ones(4, 2, 6))


class SharesDropped(Block):
    def forward(self, x):
        drive = self.drive(x)
        other = F.dropout(drive, 0.5, self.training)
        other += 1
        return self.lif(drive)


class SharesDetached(Block):
    def forward(self, x):
        drive = self.drive(x)
        other = drive.detach()
        other += 1
        return self.lif(drive)


@pytest.mark.parametrize("kind", [SharesDropped, SharesDetached])
def test_what_gives_the_same_memory_shares_it(kind):
    with pytest.raises(ExportError, match="changed in place"):
        plan(sk.Sequential(kind()).eval(), torch.ones(4, 2, 6))
