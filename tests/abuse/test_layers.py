"""Networks put together wrongly, and inputs that a plain layer refuses: errors in the words of [T, B, ...]."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.state import active


@pytest.fixture
def net():
    net = sk.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), sk.LIF(), nn.Flatten(), nn.Linear(48, 4), sk.LI())
    net.eval()
    x = torch.randn(5, 2, 2, 6, 6)
    expected = net(x)
    yield net
    assert active() is None
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (
            torch.randn(5, 2, 3, 6, 6),
            r"^layer 0: Conv2d\(2, 3.*refused \[T=5, B=2, 3, 6, 6\].*2 channels on axis 2 .C., got 3",
        ),
        (
            torch.randn(5, 2, 2, 6, 7),
            r"^layer 4: Linear\(.*refused \[T=5, B=2, 60\].*48 features on the last axis, got 60",
        ),
        (torch.randn(5, 2, 2, 2, 6), r"^layer 0: Conv2d\(.*Kernel size can't be greater than actual input size"),
        (torch.randint(0, 2, (5, 2, 2, 6, 6)), r"^layer 0: .*of torch.int64: it needs floating point; use x.float\(\)"),
        (torch.randn(5, 2, 2, 6, 6).double(), r"^layer 0: Conv2d\(.*of torch.float64: "),
        (torch.randn(5, 2, 6), r"^layer 0: Conv2d\(.*refused \[T=5, B=2, 6\]"),
        (torch.randn(5, 2), r"^Sequential: the input must have the axes \[T, B, \.\.\.\], got shape \(5, 2\)"),
        (torch.randn(0, 2, 2, 6, 6), r"^Sequential: the input has no time steps \(axis 0, T\)"),
        (torch.randn(5, 0, 2, 6, 6), r"^Sequential: the input has no samples \(axis 1, B\)"),
        (np.zeros((5, 2, 2, 6, 6)), r"^Sequential: the input must be a tensor, got ndarray; use torch.as_tensor"),
    ],
    ids=["channels", "size", "too small", "int", "double", "no channels", "no features", "T=0", "B=0", "array"],
)
def test_inputs(net, x, match):
    for call in (net, lambda x: sk.run(net, x), lambda x: sk.record(net, x)):
        with pytest.raises(InputError, match=match):
            call(x)


def test_a_missing_channel_axis_is_not_taken_for_the_batch():
    """[T·B, H, W] with T·B equal to the channels is one image to Conv2d."""
    net = sk.Sequential(nn.Conv2d(6, 4, 3), sk.LIF())
    match = r"^layer 0: Conv2d\(6, 4.*T·B = 3·2 samples on its first axis and returned \[4, 6, 6\].*may lack an axis"
    with pytest.raises(InputError, match=match):
        net(torch.randn(3, 2, 8, 8))


@pytest.mark.parametrize("last", [True, False])
def test_a_layer_that_eats_the_batch(last):
    rest = [] if last else [sk.LIF()]
    with pytest.raises(InputError, match=r"^layer 0: Flatten\(.*T·B = 3·2.*returned \[24\].*temporal = True"):
        sk.Sequential(nn.Flatten(0), *rest)(torch.randn(3, 2, 4))


def test_a_layer_that_returns_something_else():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(InputError, match=r"^layer 0: Pair\(\).*returned tuple"):
        sk.Sequential(Pair(), sk.LIF())(torch.randn(3, 2, 4))


def test_errors_of_nested_networks_name_the_way():
    net = sk.Sequential(nn.Identity(), sk.Sequential(sk.LIF(), nn.Linear(3, 4)))
    with pytest.raises(InputError, match=r"^layer 1: layer 1: Linear\(.*refused \[T=5, B=2, 7\]"):
        net(torch.randn(5, 2, 7))


def test_errors_keep_their_cause():
    with pytest.raises(InputError) as caught:
        sk.Sequential(nn.Linear(3, 4))(torch.randn(5, 2, 7))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_that_are_not_about_the_input_pass_through():
    class Broken(nn.Module):
        def forward(self, x):
            return x.no_such_method()

    with pytest.raises(AttributeError, match="no_such_method"):
        sk.Sequential(Broken())(torch.randn(5, 2, 3))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(3, 3),
        nn.GRU(3, 3),
        nn.RNN(3, 3),
        nn.MultiheadAttention(4, 2),
        nn.TransformerEncoderLayer(4, 2, 8),
        nn.TransformerDecoderLayer(4, 2, 8),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_with_a_time_axis_of_their_own(layer):
    name = type(layer).__name__
    for chain in (layer, nn.Sequential(nn.Identity(), layer)):
        with pytest.raises(InputError, match=rf"^Sequential: layer 1 \({name}\) has a time axis of its own"):
            sk.Sequential(nn.Identity(), chain)


@pytest.mark.parametrize(
    "add",
    [
        lambda net, layer: net.append(layer),
        lambda net, layer: net.insert(0, layer),
        lambda net, layer: net.extend([layer]),
        lambda net, layer: net.__setitem__(0, layer),
    ],
    ids=["append", "insert", "extend", "setitem"],
)
def test_layers_added_later_are_checked_too(add):
    net = sk.Sequential(nn.Identity())
    with pytest.raises(InputError, match=r"^Sequential: layer [01] \(LSTM\) has a time axis of its own"):
        add(net, nn.LSTM(3, 3))
    add(net, nn.Linear(3, 3))
    assert net(torch.ones(2, 2, 3)).shape == (2, 2, 3)


def test_a_layer_along_folded_time_and_batch():
    with pytest.raises(InputError, match=r"^Sequential: layer 1 \(Softmax\(dim=0\)\) works on axis 0, .* dim=-1"):
        sk.Sequential(nn.Identity(), nn.Softmax(dim=0))


def test_a_plain_sequential_that_holds_neurons():
    with pytest.raises(InputError, match=r"^Sequential: layer 1 is an nn.Sequential that holds neurons; make it an"):
        sk.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), sk.LIF()))


@pytest.mark.parametrize("module", [sk.LIF(), sk.Sequential(nn.Linear(3, 3)), nn.Sequential(sk.LI())], ids=str)
def test_folding_time_of_a_neuron(module):
    with pytest.raises(InputError, match=rf"^fold_time: {type(module).__name__} holds neurons, .* call it directly"):
        sk.fold_time(module)


@pytest.mark.parametrize("shape", [(3,), (5, 2), (0, 2, 3), (5, 0, 3)], ids=str)
def test_fold_time_without_the_axes(shape):
    with pytest.raises(InputError, match=r"^fold_time: the input (must have the axes|has no)"):
        sk.fold_time(nn.Identity())(torch.zeros(shape))


def test_folding_time_of_a_layer_whose_first_axis_is_a_sequence():
    with pytest.raises(InputError, match=r"^fold_time: GRU takes axis 0 for its sequence, .* batch_first=True"):
        sk.fold_time(nn.GRU(3, 3))


@pytest.mark.parametrize("layer", [nn.GRU(3, 3, batch_first=True), nn.Flatten(0)], ids=["tuple", "no batch"])
def test_folding_time_of_a_layer_that_returns_something_else(layer):
    with pytest.raises(InputError, match=r"^fold_time: .* was given T·B = 5·2 samples .* returned"):
        sk.fold_time(layer)(torch.zeros(5, 2, 4, 3))
