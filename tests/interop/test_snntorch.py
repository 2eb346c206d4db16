"""Live networks of snnTorch, where it is installed: equal spikes for every reset that it offers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from tests.interop.peers import SHAPES, conv_net, equal, load, unroll_snntorch


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("kind", ["Leaky", "learned", "at once", "Synaptic", "RLeaky", "one to one"])
def test_snntorch_fires_the_same_spikes(kind, reset, seed):
    snn = load("snntorch")
    torch.manual_seed(seed)
    beta, threshold = 0.5 + 0.49 * torch.rand(12), 0.5 + torch.rand(12)
    settings = {"threshold": threshold, "reset_mechanism": reset}
    if kind == "Leaky":
        theirs = snn.Leaky(beta, **settings)
    elif kind == "learned":
        theirs = snn.Leaky(beta, learn_beta=True, learn_threshold=True, **settings)
    elif kind == "at once":
        theirs = snn.Leaky(beta, reset_delay=False, **settings)
    elif kind == "Synaptic":
        theirs = snn.Synaptic(0.4, beta, **settings)
    elif kind == "RLeaky":
        theirs = snn.RLeaky(beta, linear_features=12, **settings)
    else:
        theirs = snn.RLeaky(beta, all_to_all=False, V=torch.rand(12) - 0.5, **settings)
    # Their recurrent neurons keep float32 spikes; the others in float64, where rounding decides nothing.
    dtype = torch.float32 if isinstance(theirs, snn.RLeaky) else torch.float64
    theirs = theirs.to(dtype)
    refused = (kind == "at once" and reset == "subtract") or (
        reset == "zero" and kind in ("Synaptic", "RLeaky", "one to one")
    )
    if refused:
        with pytest.raises(ExportError, match="reset_delay"):
            sk.interop.from_snntorch(theirs)
        return
    x = 0.7 * torch.rand(60, 6, 12, dtype=dtype)
    if reset == "none":
        x = x - 0.2
    equal(sk.interop.from_snntorch(theirs)(x), unroll_snntorch(theirs, x))


@pytest.mark.parametrize("kind", ["Synaptic", "RLeaky"])
def test_snntorch_zero_at_once(kind):
    snn = load("snntorch")
    torch.manual_seed(0)
    first = (0.4, 0.9) if kind == "Synaptic" else (0.9,)
    more = {} if kind == "Synaptic" else {"linear_features": 12}
    theirs = getattr(snn, kind)(*first, reset_mechanism="zero", reset_delay=False, **more)
    x = 0.6 * torch.rand(60, 6, 12)
    equal(sk.interop.from_snntorch(theirs)(x), unroll_snntorch(theirs, x))


def test_snntorch_network_with_layers_between():
    snn = load("snntorch")
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), snn.Leaky(0.9, init_hidden=True), nn.Flatten(), nn.Linear(64, 5)]
    net = nn.Sequential(*layers, snn.Leaky(0.8, threshold=0.1, init_hidden=True))
    x = 2 * torch.rand(30, 3, 1, 6, 6)
    for layer in (net[1], net[4]):
        layer.reset_mem()
    equal(sk.interop.from_snntorch(net)(x), torch.stack([net(step) for step in x]))


@pytest.mark.parametrize("what", ["beta", "threshold"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_snntorch_parameters_behind_a_convolution_are_those_of_the_last_axes(shape, what):
    snn = load("snntorch")
    torch.manual_seed(1)
    values = 0.2 + 0.7 * torch.rand(shape)
    net, x = conv_net(snn.Leaky(0.9, values) if what == "threshold" else snn.Leaky(values))
    equal(sk.interop.from_snntorch(net)(x), torch.stack([net[1](net[0](step))[0] for step in x]))


def test_snntorch_layers_used_twice_come_twice():
    snn = load("snntorch")
    torch.manual_seed(0)
    fc, lif = nn.Linear(4, 4), snn.Leaky(0.9)
    net = sk.interop.from_snntorch(nn.Sequential(fc, lif, fc, snn.Leaky(0.8)))
    assert [type(layer).__name__ for layer in net] == ["Linear", "LIF", "Linear", "LIF"]


def test_snntorch_resets_as_it_was_made():
    snn = load("snntorch")
    changed = snn.Leaky(0.9)
    changed.reset_mechanism = "zero"
    with pytest.raises(ExportError, match="made with reset_mechanism='subtract'"):
        sk.interop.from_snntorch(changed)


@torch.no_grad()
def test_snntorch_spike_functions_of_ones_own_are_asked():
    snn = load("snntorch")
    torch.manual_seed(0)
    x = 0.25 * torch.randint(0, 3, (40, 3, 4))
    at = snn.Leaky(1.0, 0.5, spike_grad=lambda margin: (margin >= 0).to(margin))
    equal(sk.interop.from_snntorch(at)(x), unroll_snntorch(at, x))
    with pytest.raises(ExportError, match="spikes are 0 or 1"):
        sk.interop.from_snntorch(snn.Leaky(0.9, spike_grad=lambda margin: 2 * (margin > 0).to(margin)))
    with pytest.raises(ExportError, match="could not be asked"):
        sk.interop.from_snntorch(snn.Leaky(0.9, spike_grad=lambda a, b: a))


def test_an_evaluated_network_stays_one():
    snn = load("snntorch")
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), snn.Leaky(0.9))
    assert sk.interop.from_snntorch(net).training
    assert not any(module.training for module in sk.interop.from_snntorch(net.eval()).modules())


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
def test_snntorch_refuses_what_we_lack():
    snn = load("snntorch")
    with pytest.raises(ExportError, match="Alpha"):
        sk.interop.from_snntorch([nn.Linear(2, 2), snn.Alpha(0.9, 0.8)])
    for what, value in (("graded_spikes_factor", 2.0), ("inhibition", True), ("state_quant", lambda mem: mem)):
        with pytest.raises(ExportError, match=f"layer 0 .Leaky. uses {what}"):
            sk.interop.from_snntorch(snn.Leaky(0.9, **{what: value}))
    with pytest.raises(ExportError, match="has beta = 0 and a reset that comes a step late"):
        sk.interop.from_snntorch(snn.Leaky(0.0))


@torch.no_grad()
def test_snntorch_clamps_its_decay():
    snn = load("snntorch")
    torch.manual_seed(0)
    theirs = snn.Leaky(1.3, learn_beta=True).double()
    x = 0.4 * torch.rand(40, 6, 5, dtype=torch.float64)
    equal(sk.interop.from_snntorch(theirs)(x), unroll_snntorch(theirs, x))


def test_snntorch_hooks_anywhere_are_refused():
    snn = load("snntorch")
    recurrent = snn.RLeaky(0.9, linear_features=3)
    recurrent.recurrent.register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="recurrent has a forward hook"):
        sk.interop.from_snntorch(recurrent)
    container = nn.Sequential(nn.Linear(2, 2), snn.Leaky(0.9))
    container.register_forward_pre_hook(lambda *_: None)
    with pytest.raises(ExportError, match=r"layer 0 \(Sequential\) has a forward hook"):
        sk.interop.from_snntorch(container)
