"""Two linear maps as one: the same sums as one after the other, in the smallest form there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spikekit.errors import ExportError
from spikekit.export import compose as composing
from spikekit.export.compose import compose, gather, identity
from spikekit.export.pooling import adaptive_pool, average_pool, maximum_pool, upsampled
from spikekit.export.synapses import Synapses


def of(layer, shape):
    """A convolution or linear layer without bias as synapses from `shape`."""
    with torch.no_grad():
        out = tuple(layer(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])
    weight = layer.weight.detach().numpy()
    if isinstance(layer, nn.Linear):
        return Synapses("dense", weight, shape, out)
    return Synapses("conv", weight, shape, out, layer.stride, layer.padding, layer.dilation, layer.groups)


def same(synapses, layer, shape, seed=0):
    """The synapses do what the layer does, as they are and one by one."""
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = layer(x).flatten(1)
    for each in (synapses, synapses.sparse()):
        torch.testing.assert_close(each.apply(x.flatten(1)), expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_convolution_behind_a_convolution_or_pooling(data):
    draw = data.draw
    size = (draw(st.integers(5, 9)), draw(st.integers(5, 9)))
    channels, outputs = draw(st.sampled_from([2, 4])), 4

    def conv(inputs, outputs, groups):
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
        stride, padding = draw(st.integers(1, 3)), (draw(st.integers(0, 1)), draw(st.integers(0, 1)))
        return nn.Conv2d(
            inputs, outputs, kernel, stride, padding, draw(st.integers(1, 2)), groups, bias=False, dtype=torch.float64
        )

    kind = draw(st.sampled_from(["pool", "depthwise", "full", "grouped"]))
    if kind == "pool":
        window = draw(st.integers(1, 3))
        first = nn.AvgPool2d(window, draw(st.integers(1, 3)), draw(st.integers(0, window // 2)), draw(st.booleans()),
                             draw(st.booleans()))  # fmt: skip
        one = average_pool(first, (channels, *size))
    else:
        first = conv(channels, channels, {"depthwise": channels, "full": 1, "grouped": 2}[kind])
        try:
            one = of(first, (channels, *size))
        except RuntimeError:
            return
    second = conv(channels, outputs, draw(st.sampled_from([1, 2, *([4] if channels == 4 else [])])))
    try:
        two = of(second, one.out_shape)
    except RuntimeError:
        return
    found = compose("layer", one, two)
    assert found.in_shape == one.in_shape
    assert found.out_shape == two.out_shape
    same(found, nn.Sequential(first, second), (channels, *size))


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1, bias=False), "conv"),
        (nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), "conv"),
        (nn.AvgPool2d(3, 2), nn.Conv2d(4, 6, 2, bias=False), "conv"),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.Conv2d(4, 6, 1, bias=False), "conv"),
        (nn.AvgPool2d(3, 2), nn.Conv2d(4, 6, 3, padding=1, bias=False), "sparse"),
        (nn.AvgPool2d(2, padding=1), nn.Conv2d(4, 6, 3, padding=1, bias=False), "sparse"),
        (nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 6, 3, padding=1, bias=False), "sparse"),
    ],
)
def test_it_stays_a_convolution_wherever_the_border_allows(first, second, kind):
    first, second, shape = first.double(), second.double(), (4, 8, 6)
    one = average_pool(first, shape) if isinstance(first, nn.AvgPool2d) else of(first, shape)
    found = compose("layer", one, of(second, one.out_shape))
    assert found.kind == kind
    same(found, nn.Sequential(first, second), shape)


def test_a_linear_layer_behind_anything_is_linear():
    shape = (2, 4, 3)
    linear = nn.Linear(12, 5, bias=False, dtype=torch.float64)
    conv = nn.Conv2d(2, 2, (1, 2), bias=False, dtype=torch.float64)
    for first in (conv, nn.AdaptiveAvgPool2d((3, 2)), nn.Sequential(nn.Flatten(), nn.Linear(24, 12, False).double())):
        one = adaptive_pool(first, shape) if isinstance(first, nn.AdaptiveAvgPool2d) else None
        one = one or (of(first, shape) if first is conv else of(first[1], (24,)))
        rows = linear if one.n_out == 12 else nn.Linear(one.n_out, 5, bias=False, dtype=torch.float64)
        found = compose("layer", one.onto((one.n_out,)), of(rows, (one.n_out,)))
        assert found.kind == "dense"
        same(found, nn.Sequential(first, nn.Flatten(), rows), shape if first is not None else (24,))


POOLS = [
    nn.AvgPool2d(2),
    nn.AvgPool2d((3, 2), (2, 1), (1, 0)),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d(2, ceil_mode=True, divisor_override=3),
    nn.AvgPool2d(2, divisor_override=1),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("shape", [(2, 6, 8), (3, 7, 5)])
def test_average_pooling_with_every_rule_for_borders(pool, shape):
    same(average_pool(pool, shape), pool, shape)


@pytest.mark.parametrize("size", [1, 2, (3, 2), (None, 4)])
def test_adaptive_pooling(size):
    pool = nn.AdaptiveAvgPool2d(size)
    same(adaptive_pool(pool, (2, 7, 5)), pool, (2, 7, 5))


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1, 0, 2), nn.MaxPool2d(3, 2, 1, ceil_mode=True)]
)
def test_the_windows_of_max_pooling_are_its_own(pool):
    """Of spikes, the maximum is whether the sum is above zero."""
    x = (torch.rand(20, 2, 7, 6, generator=torch.Generator().manual_seed(0)) < 0.2).double()
    sums = maximum_pool("layer", pool, (2, 7, 6)).apply(x.flatten(1))
    assert torch.equal((sums > 0).double(), pool(x).flatten(1))


@pytest.mark.parametrize("grow", [nn.Upsample(scale_factor=2), nn.Upsample((9, 5)), nn.UpsamplingNearest2d((4, 4))])
def test_upsampling_repeats(grow):
    same(upsampled(grow, (2, 3, 4)), grow, (2, 3, 4))


def test_identity_and_gather():
    for shape in ((3, 2, 4), (5,)):
        same(identity(shape), nn.Identity(), shape)
    index = np.array([[2, -1], [0, 2]])
    x = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(
        gather(index, (3,)).apply(x), torch.stack([x[:, 2], torch.zeros(4), x[:, 0], x[:, 2]], 1).double()
    )


def test_scaling_one_neuron_of_a_channel_makes_single_synapses():
    conv = of(nn.Conv2d(2, 3, 2, bias=False, dtype=torch.float64), (2, 4, 3))
    x = torch.randn(2, 24, dtype=torch.float64)
    factor = np.ones(conv.n_out)
    factor[4] = -2.0
    found = conv.scaled(factor)
    assert (found.kind, found.rows) == ("sparse", conv.n_out)
    torch.testing.assert_close(found.apply(x), conv.apply(x) * torch.from_numpy(factor))
    assert conv.scaled(np.repeat([1.0, 2.0, -3.0], 6)).kind == "conv"


def test_what_is_too_large_to_multiply_out_is_refused(monkeypatch):
    monkeypatch.setattr(composing, "PRODUCTS_MAX", 1000)
    conv = of(nn.Conv2d(4, 4, 3, padding=1, bias=False, dtype=torch.float64), (4, 8, 6))
    with pytest.raises(ExportError, match=r"layer 3: with what lies in front.*products.*too many.*Put an sk.LIF"):
        compose("layer 3", conv, conv)


def test_sparse_rows_know_their_own_weights():
    ends = np.array([[0, 0, 2, 2, 2], [1, 3, 0, 1, 2]])
    synapses = Synapses("sparse", np.array([5.0, -6.0, 1.0, 2.0, 4.0]), (4,), (3,), ends=ends)
    assert synapses.by_row().tolist() == [[5, -6, 0], [0, 0, 0], [1, 2, 4]]
    assert synapses.per_weight(np.array([1, 10, 100])).tolist() == [1, 1, 100, 100, 100]
    assert synapses.most == 11
    weight = torch.tensor([5.0, -6.0, 1.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.autograd.gradcheck(lambda w, a: synapses.sums(a, w), (weight, x.requires_grad_()))
