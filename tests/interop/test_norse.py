"""Live networks of norse, where it is installed: equal spikes for every reset that it offers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from tests.interop.peers import SHAPES, conv_net, equal, load, unroll


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


@torch.no_grad()
def test_an_iaf_that_starts_elsewhere_fires_that_much_sooner():
    norse = load("norse.torch")
    torch.manual_seed(0)
    cell = norse.IAFCell(norse.IAFParameters(v_th=torch.as_tensor(1.0), v_reset=torch.as_tensor(0.4)))
    x = 0.3 * torch.rand(40, 6, 5, dtype=torch.float64)
    equal(sk.interop.from_norse([cell])(x), unroll(cell, x))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda n: [n.LIFCell(n.LIFParameters(tau_mem_inv=torch.as_tensor(2000.0)))], r"dt·tau_mem_inv = 2 must lie"),
        (lambda n: [n.LIFCell(n.LIFParameters(tau_syn_inv=torch.as_tensor(-1.0)))], "dt·tau_syn_inv = -0.001 must lie"),
        (lambda n: [n.LICell(n.LIParameters(v_leak=torch.as_tensor(0.1)))], "our LI leaks to 0"),
        (lambda n: [n.LIF(), nn.Flatten(1)], r"layer 1 \(Flatten\) joins time and batch"),
        (lambda n: [n.LIF(), nn.Flatten(0)], r"layer 1 \(Flatten\) joins time and batch"),
    ],
)
def test_norse_refuses_what_would_not_be_the_same(layers, message):
    with pytest.raises(ExportError, match=message):
        sk.interop.from_norse(layers(load("norse.torch")))


def test_a_hook_on_a_norse_container_is_refused():
    norse = load("norse.torch")
    net = norse.SequentialState(nn.Linear(2, 2), norse.LIFBoxCell())
    net.register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="SequentialState has a forward hook"):
        sk.interop.from_norse(net)
