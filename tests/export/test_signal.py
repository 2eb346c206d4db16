"""What flows between neurons while a network is read: parts of a concatenation, and what is spikes and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from tests.export.nets import frames


class Joined(nn.Module):
    """Two branches side by side, `shift` added, and a layer that sees both."""

    temporal = True

    def __init__(self, layer, shift=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.a = sk.Sequential(nn.Conv2d(2, 2, 3, padding=1), sk.LIF(0.8, 0.3))
        self.b = sk.Sequential(nn.Conv2d(2, 4, 3, padding=1), sk.LIF(0.8, 0.2))
        self.layer, self.lif, self.shift = sk.fold_time(layer), sk.LIF(0.9, 0.3), shift

    def forward(self, x):
        joined = torch.cat([self.a(x), self.b(x)], 2)
        return self.lif(self.layer(joined + self.shift if self.shift else joined))


SEPARABLE = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 3, 1))


@pytest.mark.parametrize(
    ("layer", "kinds"),
    [
        (nn.Conv2d(6, 4, 3), ["conv", "conv"]),
        (nn.Conv2d(6, 12, 3, groups=6), ["sparse", "sparse"]),
        (nn.Conv2d(6, 6, 3, groups=2), ["sparse", "sparse"]),
        (SEPARABLE, ["conv", "conv"]),
    ],
    ids=["full", "depthwise", "groups", "separable"],
)
@torch.no_grad()
def test_each_part_of_a_concatenation_has_synapses_of_its_own(layer, kinds):
    net, x = Joined(layer).double().eval(), frames()
    layers = plan(net, x).layers
    assert [(each.source, each.synapses.kind) for each in layers[2].inputs] == list(enumerate(kinds))
    y = net(x.double()).flatten(2)
    torch.testing.assert_close(run_plan(layers, x)[-1].spikes, y, rtol=0, atol=0)
    assert 0 < y.mean() < 1


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_maximum_of_spikes_is_a_spike_and_of_anything_else_a_number(shift):
    layers = plan(Joined(nn.MaxPool2d(2), shift=shift).eval(), frames()).layers
    assert [layer.name for layer in layers] == ["a.1", "b.1", "layer", "lif"]
    assert layers[2].graded == bool(shift)
