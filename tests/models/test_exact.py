from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spikekit.errors import InputError
from spikekit.models import ExactReadout, SpikeLinear, weights_held
from spikekit.ops.linear import cpu


def spikes(*shape, density=0.3):
    return (torch.rand(shape) < density).float()


@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 9), st.sampled_from([0.01, 1.0, 30.0]))
def test_one_row_and_many_are_the_same_bits(n_in, n_out, rows, scale):
    layer = SpikeLinear(n_in, n_out, std=scale)
    with torch.no_grad():
        layer.bias.normal_()
    x = spikes(40, n_in)
    assert torch.equal(layer(x), torch.cat([layer(part) for part in x.split(rows)]))


def test_sums_are_exact():
    layer = SpikeLinear(500, 30)
    x, used = spikes(64, 500), layer.used()
    exact = (x.double() @ used.double().t()).float()
    assert torch.equal(layer(x) - layer.bias, exact)
    order = torch.randperm(500)
    assert torch.equal(x[:, order] @ used[:, order].t(), exact)


def test_events_and_the_dense_product_are_the_same_bits():
    layer = SpikeLinear(256, 64, bias=False)
    x, used = spikes(64, 256, density=0.05), layer.used().detach()
    found = cpu.product(x, used.t(), None) if cpu.supports(torch.float32) else None
    if found is None:
        pytest.skip("no C compiler here")
    assert torch.equal(found, x @ used.t())


def test_the_test_can_fail():
    """Without the grid the same products differ, or else nothing is shown here."""
    torch.manual_seed(1)
    layer, x = nn.Linear(192, 384, bias=False), spikes(64, 192)
    if torch.equal(layer(x), torch.cat([layer(part) for part in x.split(1)])):
        pytest.skip("this torch adds in one order")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_grid_is_fine_and_the_gradient_is_that_of_a_linear_layer(dtype):
    layer, plain = SpikeLinear(128, 16).to(dtype), nn.Linear(128, 16).to(dtype)
    plain.load_state_dict(layer.state_dict())
    x = spikes(9, 128).to(dtype)
    assert torch.allclose(layer(x), plain(x), atol=128 * (1e-5 if dtype == torch.float32 else 1e-13))
    for net in (layer, plain):
        net(x).square().sum().backward()
    assert torch.allclose(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


def test_a_row_of_zeros_stays_one():
    layer = SpikeLinear(8, 2)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(layer(spikes(3, 8)), torch.zeros(3, 2))


def test_half_precision_is_refused():
    with pytest.raises(InputError, match=r"exact in float32 and float64, not in torch\.bfloat16"):
        SpikeLinear(4, 2).bfloat16()(spikes(3, 4).bfloat16())


@given(st.integers(1, 200), st.integers(1, 90), st.integers(1, 9))
def test_the_readout_is_exact_in_eval_mode(width, vocabulary, rows):
    readout = ExactReadout(width, vocabulary).eval()
    x = torch.randn(30, width)
    y = readout(x)
    assert torch.equal(y, torch.cat([readout(part) for part in x.split(rows)]))
    assert torch.allclose(y, readout.train()(x), atol=1e-3)


def test_the_readout_in_pieces(monkeypatch):
    readout, x = ExactReadout(16, 10).eval(), torch.randn(7, 3, 16)
    y = readout(x)
    monkeypatch.setattr(ExactReadout, "rows", 40)
    assert torch.equal(readout(x), y)
    assert y.shape == (7, 3, 10)


def test_held_weights_give_the_same_and_are_let_go():
    net = nn.Sequential(SpikeLinear(20, 30), nn.Hardtanh(0, 1), ExactReadout(30, 5)).eval()
    x = spikes(4, 20)
    y = net(x)
    with weights_held(net):
        assert torch.equal(net(x), y)
        with torch.no_grad():
            net[0].weight.add_(1)
        assert torch.equal(net(x), y)
    assert not torch.equal(net(x), y)
