"""sk.Sequential and fold_time: plain layers on [T, B, ...], and errors that name the layer."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError


def test_layers_are_applied_step_by_step():
    conv, pool, flatten, linear = nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    lif, li = sk.LIF(0.8, 0.3), sk.LI(0.5)
    x = torch.randn(5, 2, 2, 6, 6)
    y = sk.Sequential(conv, lif, pool, flatten, linear, li)(x)
    z = torch.stack([conv(step) for step in x])
    z = torch.stack([linear(flatten(pool(step))) for step in lif(z)])
    torch.testing.assert_close(y, li(z))
    assert y.shape == (5, 2, 4)


@pytest.mark.parametrize(
    ("layers", "shape", "expected"),
    [
        ((nn.Conv2d(2, 3, 3),), (2, 6, 6), (3, 4, 4)),
        ((sk.LIF(),), (3,), (3,)),
        ((sk.LIF(), nn.Linear(3, 5)), (3,), (5,)),
        ((nn.Conv1d(2, 3, 3), sk.LIF(), nn.Flatten()), (2, 8), (18,)),
        ((nn.Conv3d(1, 2, 2), sk.LIF()), (1, 4, 4, 4), (2, 3, 3, 3)),
        ((nn.Unflatten(1, (2, 3)), sk.LIF(), nn.AdaptiveAvgPool1d(1)), (6,), (2, 1)),
        ((nn.GroupNorm(1, 2), sk.LIF(), nn.Dropout2d(0.5), nn.PixelShuffle(1)), (2, 4, 4), (2, 4, 4)),
        ((), (3,), (3,)),
    ],
    ids=str,
)
def test_shapes(layers, shape, expected):
    assert sk.Sequential(*layers)(torch.randn(5, 2, *shape)).shape == (5, 2, *expected)


def test_batch_statistics_are_taken_over_time_and_batch():
    x = torch.randn(5, 4, 3) * 3 + 2
    norm = nn.BatchNorm1d(3)
    y = sk.Sequential(norm)(x)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 1)))
    assert norm.num_batches_tracked == 1


def test_nested_chains_and_modules_with_neurons_see_time():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.lif = nn.Linear(3, 3), sk.LIF(0.8, 0.2)

        def forward(self, x):
            assert x.ndim == 3
            return x + self.lif(sk.fold_time(self.linear)(x))

    inner = sk.Sequential(nn.Linear(3, 3), sk.LIF(0.8, 0.2))
    block = Block()
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(sk.Sequential(inner, block, nn.Linear(3, 3))[:2](x), block(inner(x)))


def test_a_module_that_says_it_is_temporal_sees_time():
    class Mean(nn.Module):
        temporal = True

        def forward(self, x):
            return x.mean(0, keepdim=True)

    y = sk.Sequential(nn.Linear(3, 4), Mean(), nn.Linear(4, 2))(torch.randn(5, 2, 3))
    assert y.shape == (1, 2, 2)


def test_a_layer_used_twice_is_applied_twice():
    linear, lif = nn.Linear(3, 3), sk.LIF(0.8, 0.2)
    x = torch.randn(5, 2, 3)
    net = sk.Sequential(linear, lif, linear, lif, linear)
    torch.testing.assert_close(net(x), linear(lif(linear(lif(linear(x))))))
    _, state = sk.run(net, x)
    assert set(state) == {"1", "1#2"}


def test_names_of_layers():
    net = sk.Sequential(OrderedDict(up=nn.Linear(3, 4), fire=sk.LIF(), out=sk.LI()))
    _, state = sk.run(net, torch.randn(5, 2, 3))
    assert set(state) == {"fire", "out"}
    with pytest.raises(InputError, match=r"^layer up: Linear\(.*it needs 3 features on the last axis, got 4"):
        net(torch.randn(5, 2, 4))


def test_it_is_an_nn_sequential():
    net = sk.Sequential(nn.Linear(3, 4), sk.LIF())
    net.append(nn.Linear(4, 2))
    assert len(net) == 3
    assert type(net[:2]) is sk.Sequential
    assert net(torch.randn(5, 2, 3)).shape == (5, 2, 2)
    assert set(net.state_dict()) == {
        "0.weight",
        "0.bias",
        "1.beta",
        "1.threshold",
        "2.weight",
        "2.bias",
    }


def test_fold_time():
    conv = nn.Conv2d(2, 3, 3)
    x = torch.randn(5, 2, 2, 6, 6)
    y = sk.fold_time(conv)(x)
    torch.testing.assert_close(y, torch.stack([conv(step) for step in x]))
    net = sk.Sequential(sk.fold_time(conv), sk.LIF())
    assert torch.equal(net(x), sk.Sequential(conv, sk.LIF())(x))


def test_attention_over_tokens_at_every_step():
    """Refused bare, because it would attend over folded time; wrapped, it works on an axis of its own."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = torch.randn(5, 2, 7, 8)
    with pytest.raises(InputError, match=r"layer 0 \(TransformerEncoderLayer\) has a time axis.*sk.fold_time"):
        sk.Sequential(layer, sk.LIF())
    y = sk.Sequential(sk.fold_time(layer), sk.LIF(), sk.LI())(x)
    assert y.shape == x.shape
    torch.testing.assert_close(sk.fold_time(layer)(x)[3], layer(x[3]))


@pytest.mark.parametrize("drop", [nn.Dropout, nn.Dropout2d], ids=lambda kind: kind.__name__)
def test_dropout_drops_in_training_and_only_there(drop):
    net = sk.Sequential(nn.Identity(), drop(0.5))
    x = torch.ones(4, 5, 6, 7, 7)
    assert (net(x) == 0).any()
    assert torch.equal(net.eval()(x), x)
