"""Branching and recurrent networks in NIR: simulated by NIR's own equations, they fire the spikes of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError

nir = pytest.importorskip("nir", reason="pip install 'spikekit[nir]'")

from tests.export.nets import frames  # noqa: E402
from tests.export.random_nets import random_net  # noqa: E402
from tests.interop.nir_simulator import simulate  # noqa: E402


def same(net, x, tmp_path, dt=1.0, soft="graph"):
    """The written file means the network, in float64; the spikes of the last layer, or its membranes."""
    net = net.double().eval()
    sk.interop.to_nir(net, x, tmp_path / "net.nir", dt=dt, soft=soft)
    graph = nir.read(str(tmp_path / "net.nir"), type_check=False)
    found = simulate(graph, x.double().numpy(), dt)
    with torch.no_grad():
        expected = net(x.double()).numpy()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)
    assert expected.any()


class Branches(nn.Module):
    temporal = True

    def __init__(self, reset):
        super().__init__()
        torch.manual_seed(0)
        self.stem = sk.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), sk.LIF(0.8, 0.3, reset))
        self.branch = sk.Sequential(nn.Conv2d(4, 4, 3, padding=1), sk.LIF(0.7, 0.3, reset))
        self.lif = sk.CUBALIF(0.5, 0.8, 0.4, reset)
        self.head = sk.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 6), sk.RecurrentLIF(6, 0.9, 0.3, reset))

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.cat([self.lif(self.branch(x) + x), x], 2))


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("dt", [1.0, 1e-3])
def test_sums_concatenation_currents_and_recurrence(reset, dt, tmp_path):
    same(Branches(reset), frames().double(), tmp_path, dt)


def test_random_networks(tmp_path):
    """All of them that have a node for everything and fire at all."""
    written = 0
    for seed in range(60):
        net, x = random_net(seed)
        with torch.no_grad():
            silent = not net.double()(x.double()).any()
        try:
            sk.interop.to_nir(net, x)
        except ExportError:
            silent = True
        if not silent:
            same(net, x, tmp_path)
            written += 1
    assert written > 30


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [nn.Conv2d(2, 3, 3), sk.LIF(), nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 3, padding=1), sk.LIF()],
            "unflatten",
        ),
        ([nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), sk.LIF()], "differs inside a channel"),
    ],
)
def test_what_nir_has_no_node_for(layers, message, tmp_path):
    net = sk.Sequential(*layers, nn.Conv2d(layers[-2].out_channels, 2, 1), sk.LIF()).eval()
    nn.init.constant_(net[0].bias, 0.5)
    with pytest.raises(ExportError, match=message):
        sk.interop.to_nir(net, frames(), tmp_path / "net.nir")
    assert not list(tmp_path.iterdir())
