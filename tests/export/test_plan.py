from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from tests.export.nets import conv_net, frames


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("settings", [{}, {"inclusive": True}, {"reset_quantum": 0.4}])
def test_the_plan_fires_the_spikes_of_the_float64_network(reset, settings):
    net = conv_net(reset=reset, **settings).double()
    x = frames().double()
    traces = run_plan(plan(net, x), x)
    with torch.no_grad():
        y, recorded = sk.record(net, x, ["2.spikes", "2.membrane", "6.spikes"])
    assert recorded["2.spikes"].mean() > 0.02
    assert torch.equal(traces[0].spikes, recorded["2.spikes"].flatten(2))
    assert torch.equal(traces[1].spikes, recorded["6.spikes"])
    torch.testing.assert_close(traces[0].membranes, recorded["2.membrane"].flatten(2), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(traces[2].membranes, y, rtol=1e-11, atol=1e-11)


def test_linear_batch_norm_nested_chains_and_fold_time():
    torch.manual_seed(0)
    inner = sk.Sequential(nn.Linear(112, 6), nn.BatchNorm1d(6), sk.IF(0.5))
    net = sk.Sequential(nn.Flatten(), inner, sk.fold_time(nn.Linear(6, 2)), sk.LI(0.5)).eval().double()
    nn.init.uniform_(inner[1].running_var, 0.05, 0.2)
    x = frames().double()
    layers = plan(net, x)
    assert [layer.name for layer in layers] == ["1.2", "3"]
    torch.testing.assert_close(run_plan(layers, x)[1].membranes, net(x).detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name(padding):
    net = sk.Sequential(nn.Conv2d(2, 3, 3, padding=padding, dilation=2), sk.LIF(0.9)).double()
    with torch.no_grad():
        expected = net(frames().double())
    trace = run_plan(plan(net, frames()), frames())[0]
    assert torch.equal(trace.spikes, expected.flatten(2))


class Custom(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), sk.LIF(0.9)], r"layer 1 \(MaxPool2d\).*strided"),
        ([nn.Conv2d(2, 3, 3), nn.ReLU(), sk.LIF(0.9)], r"layer 1 \(ReLU\)"),
        ([nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), sk.LIF(0.9)], "layer 1 .*without a neuron"),
        ([nn.Flatten(), nn.Linear(112, 3)], "ends in layer 1.*sk.LI"),
        ([sk.LIF(0.9)], "layer 0 .*no synapses"),
        ([nn.Flatten(), nn.Linear(112, 3), sk.LI(0.9), nn.Linear(3, 2), sk.LIF(0.9)], r"layer 2 \(LI\) does not fire"),
        ([nn.Conv2d(2, 3, 3), sk.LIF(0.9), nn.BatchNorm2d(3)], "layer 2 .*no weights to fold"),
        ([nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), sk.LIF(0.9)], "padding_mode"),
        ([nn.Conv2d(2, 3, 3), sk.LIF(0.9), nn.Linear(5, 2), sk.LI(0.9)], "put nn.Flatten"),
        ([Custom(), sk.LIF(0.9)], r"layer 0 \(Custom\)"),
        ([nn.Flatten()], "nothing to export"),
        ([nn.Conv2d(2, 3, 2, padding="same"), sk.LIF(0.9)], "pads unevenly"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_way_out(layers, message):
    with pytest.raises(ExportError, match=message):
        plan(sk.Sequential(*layers), frames())


def test_train_mode_is_refused():
    with pytest.raises(ExportError, match=r"layer 1 .*train mode.*net.eval\(\)"):
        plan(conv_net().train(), frames())


def test_weights_that_are_not_finite_are_refused():
    net = conv_net()
    net[5].weight.data[1, 2] = float("nan")
    with pytest.raises(ExportError, match=r"layer 6.*weight.*NaN"):
        plan(net, frames())


def test_a_forward_of_its_own_is_refused():
    with pytest.raises(ExportError, match=r"Custom.*sk.Sequential"):
        plan(Custom(), frames())
