"""Live networks of snnTorch and norse, where they are installed: equal spikes for every reset that they offer."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import spikekit as sk
from spikekit.errors import ExportError, InputError


def load(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason="`make bench` makes an environment that has the peers")


def unroll(neuron, x):
    spikes, state = [], ()
    for step in x.unbind(0):
        spike, *state = neuron(step, *state)
        spikes.append(spike)
    return torch.stack(spikes)


def unroll_snntorch(neuron, x):
    return torch.stack([neuron(step)[0] for step in x.unbind(0)])


@torch.no_grad()
def equal(ours, theirs):
    assert 0.01 < ours.mean() < 0.99
    assert torch.equal(ours, theirs), f"{int((ours != theirs).sum())} of {ours.numel()} spikes differ"


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


def conv_net(neuron):
    torch.manual_seed(0)
    return [nn.Conv2d(2, 5, 3), neuron], 3 * torch.rand(30, 3, 2, 7, 7)


SHAPES = [(5,), (5, 1), (5, 1, 1), (1, 5, 1, 1), (5, 5, 5), (1,)]


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


@pytest.mark.parametrize("library", ["snntorch", "norse.torch"])
def test_hooks_and_what_is_no_layer_are_refused(library):
    peer = load(library)
    ours, theirs = sk.interop.from_snntorch, lambda: peer.Leaky(0.9)
    if library != "snntorch":
        ours, theirs = sk.interop.from_norse, peer.LIFBoxCell
    read, neuron = ours, theirs()
    neuron.register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="hook"):
        read([nn.Linear(2, 2), neuron])
    for net in ("a name", nn.ModuleDict({"a": nn.Linear(2, 2)}), None, [1], (m for m in [nn.Linear(2, 2)])):
        with pytest.raises(ExportError, match="is not read"):
            read(net)
    pruned = prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)
    with pytest.raises(ExportError, match=r"prune\.remove"):
        read([pruned])


def test_an_evaluated_network_stays_one():
    snn = load("snntorch")
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), snn.Leaky(0.9))
    assert sk.interop.from_snntorch(net).training
    assert not any(module.training for module in sk.interop.from_snntorch(net.eval()).modules())


def test_snntorch_refuses_what_we_lack():
    snn = load("snntorch")
    with pytest.raises(ExportError, match="Alpha"):
        sk.interop.from_snntorch([nn.Linear(2, 2), snn.Alpha(0.9, 0.8)])
    with pytest.raises(ExportError, match="graded"):
        sk.interop.from_snntorch(snn.Leaky(0.9, graded_spikes_factor=2.0))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["LIFCell", "value", "subtract", "shifted", "IAFCell"])
def test_norse_fires_the_same_spikes(kind, seed):
    norse = load("norse.torch")
    from norse.torch.functional import reset

    torch.manual_seed(seed)
    v = torch.as_tensor
    if kind == "LIFCell":
        cell = norse.LIFCell()
    elif kind == "IAFCell":
        cell = norse.IAFCell()
    elif kind == "shifted":
        cell = norse.LIFBoxCell(norse.LIFBoxParameters(v_leak=v(-0.5), v_reset=v(-0.5), v_th=v(0.3)))
    else:
        method = reset.reset_value if kind == "value" else reset.reset_subtract
        cell = norse.LIFBoxCell(norse.LIFBoxParameters(reset_method=method))
    theirs = nn.Sequential(nn.Linear(8, 12, dtype=torch.float64), cell)
    with torch.no_grad():
        theirs[0].weight.mul_(12)
    x = torch.rand(60, 6, 8, dtype=torch.float64)
    ours = sk.interop.from_norse(theirs).double()
    with torch.no_grad():
        equal(ours(x), unroll(cell, theirs[0](x)))


@pytest.mark.parametrize("method", ["reset_value", "reset_subtract"])
@pytest.mark.parametrize("between", ["", "AvgPool2d", "BatchNorm2d", "ReLU", "Flatten"])
@torch.no_grad()
def test_norse_behind_other_layers_than_weights(between, method):
    """Where nothing in front can scale the drive, the threshold is scaled the other way."""
    norse = load("norse.torch")
    from norse.torch.functional import reset

    layers = {
        "AvgPool2d": nn.AvgPool2d(2),
        "BatchNorm2d": nn.BatchNorm2d(5).eval(),
        "ReLU": nn.ReLU(),
        "Flatten": nn.Flatten(),
    }
    p = norse.LIFBoxParameters(reset_method=getattr(reset, method), v_th=torch.as_tensor(0.3))
    (conv, cell), x = conv_net(norse.LIFBoxCell(p))
    front = [conv.double(), layers[between]] if between else [conv.double()]
    x = 20 * x.double()
    theirs = unroll(cell, torch.stack([nn.Sequential(*front).double()(step) for step in x]))
    equal(sk.interop.from_norse([*front, cell]).double()(x), theirs)


@pytest.mark.parametrize("what", ["v_th", "tau_mem_inv"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_norse_parameters_behind_a_convolution_are_those_of_the_last_axes(shape, what):
    norse = load("norse.torch")
    torch.manual_seed(1)
    values = 0.2 + 0.7 * torch.rand(shape)
    (conv, cell), x = conv_net(
        norse.LIFBoxCell(norse.LIFBoxParameters(**{what: values * (1 if what == "v_th" else 900)}))
    )
    x = 20 * x.double()
    equal(
        sk.interop.from_norse([conv.double(), cell]).double()(x), unroll(cell, torch.stack([conv(step) for step in x]))
    )


def test_norse_resets_of_ones_own_are_refused():
    norse = load("norse.torch")

    def reset_value(z, v, reset, threshold):
        return v / 2

    with pytest.raises(ExportError, match="norse's own"):
        sk.interop.from_norse([nn.Linear(2, 2), norse.LIFBoxCell(norse.LIFBoxParameters(reset_method=reset_value))])


def test_norse_over_time():
    norse = load("norse.torch")
    torch.manual_seed(0)
    net = norse.SequentialState(
        norse.Lift(nn.Conv2d(1, 4, 3)), norse.LIF(), nn.Flatten(2), nn.Linear(64, 5), norse.LI()
    )
    x = 20 * torch.rand(30, 3, 1, 6, 6)
    with torch.no_grad():
        ours, theirs = sk.interop.from_norse(net)(x), net(x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_norse_refuses_what_we_lack():
    norse = load("norse.torch")
    with pytest.raises(ExportError, match="rests"):
        sk.interop.from_norse([nn.Linear(2, 2), norse.LIFCell(norse.LIFParameters(v_reset=torch.as_tensor(0.2)))])
    with pytest.raises(ExportError, match="LSNNCell"):
        sk.interop.from_norse([norse.LSNNCell()])


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("kind", ["LIF", "IAF"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_sinabs_file_fires_the_same_spikes(kind, reset):
    layers = load("sinabs.layers")
    pytest.importorskip("nir")
    from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike
    from sinabs.nir import to_nir

    torch.manual_seed(0)
    settings = {"spike_threshold": torch.ones(8), "batch_size": 1, "spike_fn": SingleSpike}
    settings["reset_fn"] = MembraneSubtract() if reset == "soft" else MembraneReset()
    first = {"tau_mem": torch.full((8,), 10.0)} if kind == "LIF" else {}
    theirs = nn.Sequential(nn.Linear(6, 8), getattr(layers, f"{kind}Squeeze")(**first, **settings))
    theirs[0].weight.abs_().mul_(6 if kind == "LIF" else 0.7)
    x = torch.rand(40, 6)
    y, graph = theirs(x), to_nir(theirs, x)
    ours = sk.interop.from_nir(graph, written_by="sinabs", reset=reset)
    equal(ours(x.unsqueeze(1)).squeeze(1), y)


@pytest.mark.parametrize(("name", "read"), [("snntorch", "from_snntorch"), ("norse", "from_norse")])
def test_a_missing_peer_is_named(monkeypatch, name, read):
    def missing(module):
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr("spikekit.interop.peers.importlib.import_module", missing)
    from spikekit.interop import norse, snntorch

    reader = {"from_snntorch": snntorch.from_snntorch, "from_norse": norse.from_norse}[read]
    with pytest.raises(InputError, match=name):
        reader(nn.Linear(2, 2))
