"""The energy of arithmetic: each layer by its real input, by hand for a small network, and for EMS-YOLO."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.export.cost import CHIPS, CMOS_45NM, account


class Fixed(nn.Module):
    """Gives the spikes it was made with."""

    temporal = True

    def __init__(self, spikes):
        super().__init__()
        self.spikes = spikes

    def forward(self, x):
        return self.spikes[: len(x)]


def warm(net, x):
    """`net` with the statistics of x: with those of the start it is silent, and zeros are no real numbers."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    net(x)
    return net


def test_by_hand():
    """Real input of 3 numbers to 4 neurons for 2 steps; then 3 spikes of 8 possible ones to 5 outputs."""
    spikes = torch.zeros(2, 1, 4)
    spikes[0, 0, :2] = spikes[1, 0, 3] = 1
    net = sk.Sequential(nn.Linear(3, 4), Fixed(spikes), nn.Linear(4, 5))
    found = account(net, torch.rand(2, 1, 3) + 0.1)
    first, last = found.layers
    assert (first.spiking, last.spiking) == (False, True)
    assert (first.rate, last.rate) == (1.0, 3 / 8)
    assert found.real == ("0",)
    assert found.energy.joules == pytest.approx((2 * 12 * 4.6 + 3 * 5 * 0.9) * 1e-12)
    assert found.ann is None
    assert found.ratio is None


def test_layers_that_nothing_comes_to_are_silent():
    net = sk.Sequential(nn.Linear(3, 4), Fixed(torch.zeros(2, 1, 4)), nn.Linear(4, 5))
    found = account(net, torch.ones(2, 1, 3))
    assert found.silent == ("2",)
    rows = str(found).splitlines()
    assert rows[3].split()[:2] == ["2", "silent"]
    assert rows[-1].startswith("silent: 2 had no input but zeros")
    assert "silent" not in str(account(net[:1], torch.ones(2, 1, 3)))


def test_one_real_number_makes_a_layer_multiply_everything():
    """In any step and sample: a layer cannot add where it must multiply elsewhere."""
    x = (torch.rand(5, 2, 3) < 0.5).float()
    net = sk.Sequential(nn.Linear(3, 4))
    assert account(net, x).energy.parts["macs"] == 0
    x[3, 1, 2] = 0.5
    found = account(net, x).energy
    assert found.parts == pytest.approx({"macs": 5 * 12 * 4.6e-12, "accumulates": 0})


def test_the_ratio_is_that_of_the_formula():
    """4.6 / (0.9 · T · rate), where every input fires alike."""
    x = torch.zeros(4, 1, 8)
    x[:, :, ::4] = 1
    found = account(sk.Sequential(nn.Linear(8, 6)), x, sk.Sequential(nn.Linear(8, 6)))
    assert found.ratio == pytest.approx(4.6 / (0.9 * 4 * 0.25))
    assert found.ann_sparse.joules == pytest.approx(found.ann.joules / 4)


def test_ems_yolo_against_its_ann():
    shape = {"in_channels": 2, "width": 1 / 16}
    x = (torch.rand(3, 2, 2, 64, 64) < 0.1) * 2.0
    found = account(warm(sk.models.ems_res10(**shape), x), x, sk.models.ems_res10(**shape, ann=True))
    assert found.real == ("stem.0", "detect.0.0", "detect.1.0")
    dense = sum(row.dense for row in found.layers) / 3
    assert found.ann.joules == pytest.approx(dense * 4.6e-12)
    assert 0 < found.energy.joules < 3 * found.ann.joules
    # With real input at the shortcuts, more of it multiplies.
    ms = account(warm(sk.models.ems_res10(**shape, shortcut="ms"), x), x)
    assert len(ms.real) == 3 + 8
    text = str(found)
    assert "0.9 pJ an accumulate, 4.6 pJ a multiply-accumulate" in text
    assert "T = 3, one sample" in text
    assert "Horowitz 2014" in text
    assert "ANN of equal shape" in text


def test_events_at_the_stem_are_spikes():
    x = (torch.rand(2, 2, 2, 64, 64) < 0.1).float()
    assert account(warm(sk.models.ems_res10(in_channels=2, width=1 / 16), x), x).real == ("detect.0.0", "detect.1.0")


def test_mistakes_are_named():
    x = torch.ones(1, 1, 3)
    with pytest.raises(InputError, match="no figure for"):
        account(sk.Sequential(nn.Linear(3, 1)), x, model=CHIPS[0])
    with pytest.raises(InputError, match="no Linear or Conv"):
        account(sk.Sequential(sk.LIF()), x)
    with pytest.raises(InputError, match="not the layers of net"):
        account(sk.Sequential(nn.Linear(3, 1)), x, sk.Sequential(nn.Linear(3, 2)))
    assert account(sk.Sequential(nn.Linear(3, 1)), x).energy.model is CMOS_45NM
