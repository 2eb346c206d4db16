"""Counts of `sk.measure.neurobench` against counts by hand; test_neurobench_peer.py holds them against NeuroBench."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import spikekit as sk
from spikekit.errors import InputError
from spikekit.measure import neurobench


class Always(nn.Module):
    """Weights of zeros and ones that stay."""

    def forward(self, weight):
        return torch.ones_like(weight)


def dense(weight):
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data = torch.tensor(weight, dtype=torch.float32)
    layer.bias.data.zero_()
    return layer


def test_two_dense_layers_by_hand():
    net = sk.Sequential(
        dense([[2, 0, 2], [0, 0, 2]]), sk.LIF(beta=0.0, reset="none"), dense([[1, 0], [1, 1], [0, 0]]), sk.LI()
    )
    # Two samples, two steps. Hidden drives: input 0 -> (2, 0), input 2 -> (2, 2), input 1 -> nothing.
    x = torch.tensor([[[1.0, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 1, 1]]])
    found = neurobench(net, x)
    # Inputs: 0 twice (one synapse each), 1 twice (none), 2 twice (two each): 2 + 4 = 6 operations.
    # Hidden spikes: (1, 0), (1, 1), (0, 0), (1, 1): neuron 0 three times (two synapses), neuron 1 twice (one): 8.
    first, second = found.layers
    assert (first.name, first.effective, first.dense, first.spiking) == ("0", 6 / 2, 6 * 4 / 2, True)
    assert (second.name, second.effective, second.dense, second.spiking) == ("2", 8 / 2, 6 * 4 / 2, True)
    assert (found.effective_acs, found.effective_macs, found.dense) == (7, 0, 24)
    assert found.connection_sparsity == (3 + 3) / 12
    assert found.activation_sparsity == 3 / 8
    assert found.samples == 2
    assert found.parameters == 6 + 2 + 6 + 3
    assert found.footprint == 4 * (found.parameters + sum(buffer.numel() for buffer in net.buffers()))
    assert found.as_dict()["SynapticOperations"] == {"Effective_MACs": 0, "Effective_ACs": 7, "Dense": 24}


def test_a_convolution_with_padding_by_hand():
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    conv.weight.data = torch.tensor([[[[0.0, 0, 0], [0, 1, 1], [0, 0, 0]]]])
    net = sk.Sequential(conv, sk.LIF())
    x = torch.zeros(1, 1, 1, 2, 2)
    x[..., 0, 0] = 1
    x[..., 0, 1] = 1
    found = neurobench(net, x)
    # Every one of the 4 pixels is seen by all 4 outputs: 16. Kernel: centre and the pixel to its right.
    # Input (0, 0) is the centre of one output; (0, 1) is centre of one and to the right of another.
    assert (found.dense, found.effective_acs) == (16, 3)


def test_values_are_multiplied_and_spikes_are_not():
    net = sk.Sequential(nn.Linear(3, 2, bias=False), sk.LIF(), nn.Linear(2, 2, bias=False), sk.LI())
    found = neurobench(net, torch.tensor([[[0.5, 0, -2.0]]]))
    assert [layer.spiking for layer in found.layers] == [False, True]
    assert found.effective_macs == 4
    assert neurobench(net, torch.tensor([[[1.0, 0, -1.0]]])).layers[0].spiking


def test_the_batch_size_changes_nothing():
    torch.manual_seed(1)
    net = sk.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), sk.LIF(0.9, 0.3), nn.Flatten(), nn.Linear(48, 4), sk.LI()
    )
    x = torch.rand(4, 6, 2, 6, 6)
    # The last sample is spikes alone: NeuroBench would count its operations as accumulates.
    x[:, 5] = x[:, 5].round()
    whole = neurobench(net, x)
    assert not whole.layers[0].spiking
    assert neurobench(net, list(x.split(1, 1))) == whole
    assert neurobench(net, [(part, torch.zeros(len(part))) for part in x.split(4, 1)]) == whole


def test_recurrent_weights_see_the_spikes_of_the_step_before():
    layer = sk.RecurrentLIF(2, beta=0.0, threshold=1.0, reset="none")
    layer.recurrent.weight.data = torch.tensor([[0.0, 0.5], [0.0, 0.25]])
    x = torch.tensor([[[2.0, 0]], [[2.0, 2.0]], [[2.0, 2.0]]])
    found = neurobench(sk.Sequential(layer), x)
    # Neuron 1 has two synapses and fires at steps 1 and 2; only those of step 1 arrive while we look.
    (row,) = found.layers
    assert (row.name, row.effective, row.dense) == ("0.recurrent", 2, 3 * 4)
    assert found.connection_sparsity == 0.5
    assert neurobench(layer, x).layers[0].name == "recurrent"


def test_residual_networks_are_measured_whole():
    net = sk.models.resnet20(in_channels=2, width=0.0625)
    found = neurobench(net, (torch.rand(2, 3, 2, 16, 16) < 0.2).float())
    convs = [name for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert [layer.name for layer in found.layers] == convs
    assert not found.uncounted
    # The stem sees 16x16 pixels, 3x3 kernels: 46 of 48 kernel positions a row are inside, twice.
    stem = found.layers[0]
    assert stem.dense == 2 * 46 * 46 * 2 * net[0].out_channels
    # Behind average pooling there are fractions, which are multiplied.
    assert any(not layer.spiking for layer in found.layers)
    assert found.effective_macs + found.effective_acs <= found.dense


def test_the_network_is_left_as_it_was():
    net = sk.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), sk.LIF(), nn.Dropout(), nn.Linear(3, 2), sk.LI())
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    neurobench(net, torch.rand(2, 2, 3))
    assert [module.training for module in net] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_an_error_leaves_no_hook():
    net = sk.Sequential(nn.Linear(3, 3), sk.LIF())
    with pytest.raises(InputError, match="layer 0"):
        neurobench(net, torch.rand(2, 2, 4))
    assert not any(module._forward_hooks for module in net.modules())


def test_parametrized_layers_have_the_weights_that_they_compute():
    net = sk.Sequential(nn.Linear(3, 2), sk.LIF())
    net[0].weight.data.zero_()
    parametrize.register_parametrization(net[0], "weight", Always())
    found = neurobench(net, torch.ones(1, 1, 3))
    assert (found.effective_acs, found.connection_sparsity, found.uncounted) == (6, 0, ())


def test_what_is_not_counted_is_named():
    net = sk.Sequential(nn.ConvTranspose2d(1, 1, 2), sk.LIF())
    found = neurobench(net, torch.ones(1, 1, 1, 3, 3))
    assert found.uncounted == ("0 (ConvTranspose2d)",)
    assert (found.dense, found.connection_sparsity) == (0, 0)


@pytest.mark.parametrize("data", [[], torch.rand(2, 3), [torch.rand(3)], ["x"]])
def test_data_that_is_none_is_refused(data):
    with pytest.raises(InputError, match="neurobench"):
        neurobench(sk.Sequential(nn.Linear(3, 3), sk.LIF()), data)


@given(
    sizes=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    mode=st.sampled_from(["zeros", "circular"]),
)
def test_convolutions_equal_a_count_of_every_product(sizes, kernel, stride, padding, dilation, groups, mode):
    if any(size + 2 * padding < dilation * (k - 1) + 1 for size, k in zip(sizes, kernel, strict=True)):
        return
    conv = nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode)
    conv.weight.data *= (torch.rand_like(conv.weight) < 0.7).float()
    images = (torch.rand(4, 2, *sizes) < 0.4).float()
    # A bare convolution reads them as four steps of two samples.
    found = neurobench(conv, images)
    full, real = nn.Parameter(torch.ones_like(conv.weight)), nn.Parameter((conv.weight != 0).float())
    with torch.no_grad():
        conv.weight = full
        dense = conv(torch.ones_like(images)).sum()
        conv.weight = real
        effective = conv(images).sum()
    assert (found.dense * 2, found.effective_acs * 2) == (dense, effective)


@pytest.mark.parametrize(
    ("net", "data", "message"),
    [
        (3, None, r"net must be a torch\.nn\.Module, got int"),
        (None, 3, r"data must be x \[T, B, \.\.\.\] or give batches of it, got int"),
        (None, [()], "a batch must be .* got tuple"),
    ],
)
def test_what_is_no_network_and_no_data(net, data, message):
    net = sk.Sequential(nn.Linear(2, 2), sk.LIF()) if net is None else net
    with pytest.raises(InputError, match=message):
        neurobench(net, data)
