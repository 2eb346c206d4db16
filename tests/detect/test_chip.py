"""A whole detector for the export: the boxes of its integers, and what is no detector."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.models import ems_res10


def detector(width=1 / 16, **settings):
    """Narrow, with running statistics of random frames, and the frames [T, B, 2, 32, 64]."""
    torch.manual_seed(0)
    net = ems_res10(in_channels=2, classes=3, width=width, **settings)
    x = (torch.rand(4, 3, 2, 32, 64) < 0.2).float()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
        nn.init.normal_(norm.bias, 0.1, 0.1)
    with torch.no_grad():
        net(x)
    return net.eval(), x


@torch.no_grad()
def test_its_sums_are_the_predictions():
    net, x = detector()
    on_chip, grid = sk.detect.ChipDetector(net), sk.detect.Grid.of(net, (64, 32))
    sums = on_chip(x)
    assert sums.shape == (4, 3, grid.count * 8)
    torch.testing.assert_close(on_chip.raw(sums, grid)[0], net(x).mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(on_chip.raw(sums[:2], grid)[0], net(x)[:2].mean(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shortcut", ["ems", "ms"])
@torch.no_grad()
def test_the_integers_predict_what_the_network_does(shortcut):
    net, x = detector(shortcut=shortcut)
    on_chip, grid = sk.detect.ChipDetector(net), sk.detect.Grid.of(net, (64, 32))
    chip = sk.export.to_loihi(on_chip, x)
    assert sum(layer.graded for layer in chip.layers) >= 4
    exact, found = (on_chip.raw(sums, grid) for sums in (on_chip(x), chip.simulate(x)))
    # A spike that falls at another step is seen by all that follow, so untrained networks differ in some places.
    assert torch.corrcoef(torch.stack([exact.flatten(), found.flatten()]))[0, 1] > 0.97
    assert len(sk.detect.detect(found, grid, 0.01)) == 3


def test_mistakes_are_named():
    net, x = detector()
    on_chip, grid = sk.detect.ChipDetector(net), sk.detect.Grid.of(net, (64, 64))
    with pytest.raises(InputError, match=r"sums must be \[T, B, 480\] for images of 64 × 64, got \[4, 3, 240\]"):
        on_chip.raw(torch.zeros(4, 3, 240), grid)
    with pytest.raises(InputError, match="net must be an EMSYOLO, as ems_res10"):
        sk.detect.ChipDetector(nn.Linear(2, 2))
    with pytest.raises(ExportError, match=r"forward hook.* remove the hook"):
        sk.export.to_loihi(sk.detect.ChipDetector(detector(strict=True)[0]), x)
