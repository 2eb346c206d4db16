"""The plan held against the network it was read from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import plan as planning
from spikekit.export import qat, signal
from spikekit.export.faithful import check_drives, check_output
from spikekit.export.float_run import margins, run_plan
from spikekit.export.plan import plan
from tests.export.nets import conv_net, frames


@pytest.fixture
def misread(monkeypatch):
    """A reader that loses a tenth of what a linear layer does."""
    right = signal.linear

    def wrong(name, layer, given):
        found = right(name, layer, given)
        return signal.affine(name, *(torch.tensor([value]).double().numpy() for value in (0.9, 0.0)), found)

    monkeypatch.setattr("spikekit.export.reader.linear", wrong)


def test_a_drive_that_is_misread_is_named(misread):
    with pytest.raises(ExportError, match=r"layer 6: its drive differs by up to"):
        plan(conv_net(), frames())


def test_nothing_hides_behind_neurons_that_are_silent(misread):
    """No input reaches the layer that is misread: the outputs agree, on these frames."""
    silent = conv_net()
    silent[2] = sk.LIF(0.8, 1e6)
    with pytest.raises(ExportError, match=r"layer 6: its drive differs by up to"):
        plan(silent, frames())
    with pytest.raises(ExportError, match=r"layer 6: its drive differs by up to"):
        qat(silent, frames())


def test_every_neuron_may_stand_in_the_network():
    torch.manual_seed(0)
    neurons = [
        sk.ALIF(0.8, 0.3, rho=0.9, step=0.1),
        sk.CUBALIF(0.5, 0.5, 0.3),
        sk.RefractoryLIF(2, 0.5, 0.3),
        sk.IF(0.3),
    ]
    layers = [part for neuron in neurons for part in (nn.Linear(12, 12), neuron)]
    net = sk.Sequential(nn.Flatten(), nn.Linear(112, 12), *layers, sk.RecurrentLIF(12, 0.8, 0.3), nn.Linear(12, 2))
    assert len(plan(sk.Sequential(*net, sk.LI()).eval(), frames()).layers) == 6
    assert len(plan(sk.LIF().eval(), frames()).layers) == 1


def test_the_network_is_left_as_it_was():
    net = conv_net()
    before = net(frames())
    plan(net, frames())
    assert "forward" not in vars(net[2])
    assert torch.equal(net(frames()), before)


def test_an_output_that_differs_is_told():
    net, x = conv_net(), frames()
    layers = plan(net, x).layers
    wrong = (*layers[:-1], replace(layers[-1], beta=layers[-1].beta / 2))
    check_output(net, layers, run_plan(layers, x), x)
    with pytest.raises(ExportError, match="the output differs by up to"):
        check_output(net, wrong, run_plan(wrong, x), x)


def test_an_output_of_another_shape_is_told():
    planner = planning._Planner()
    found = planning.read(conv_net(), signal.Signal.of(-1, (2, 8, 7), "input"), planner)
    with pytest.raises(ExportError, match="the output differs in shape"):
        check_drives(conv_net(), planner.signals, replace(found, terms=(), bias=found.bias[:2]), (2, 8, 7))


@torch.no_grad()
def test_margins_of_an_adaptive_neuron_are_to_the_threshold_as_it_is():
    torch.manual_seed(0)
    net = sk.Sequential(nn.Flatten(), nn.Linear(112, 8), sk.ALIF(0.8, 0.05, rho=0.9, step=0.1)).eval()
    (layer,) = plan(net, frames()).layers
    (trace,) = run_plan([layer], frames())
    level, adaptation = [], torch.zeros_like(trace.last)
    for spikes in trace.spikes:
        level.append(0.05 + 0.1 * adaptation)
        adaptation = 0.9 * adaptation + spikes
    assert trace.spikes.any()
    assert torch.allclose(margins(layer, trace), (trace.membranes - torch.stack(level)).abs(), rtol=0, atol=1e-7)


@torch.no_grad()
def test_a_sample_that_meets_its_threshold_decides_nothing():
    """The network's drive rounds to the threshold, that of its plan to the next number above it, or the other way."""
    x = torch.ones(1, 1, 1)
    for seed in range(50):
        torch.manual_seed(seed)
        front = sk.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).double().eval()
        front[1].running_mean.uniform_()
        front[1].running_var.uniform_(0.1, 2)
        nn.init.uniform_(front[0].weight, 0.5, 1.5)
        net = sk.Sequential(*front, sk.LIF(0.5, front(x.double()).abs().flatten())).eval()
        layers = plan(net, x).layers
        traces = run_plan(layers, x)
        if not torch.equal(traces[0].spikes, net(x.double())):
            check_output(net, layers, traces, x)
            return
    pytest.fail("no seed gave a tie that the two decide differently")
