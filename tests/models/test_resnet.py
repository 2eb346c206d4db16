"""The papers' networks: their sizes, their shapes, and the arithmetic of a block."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.models import ResidualBlock, resnet19, resnet20, vgg16


def count(net):
    return sum(p.numel() for p in net.parameters())


def blocks(net):
    return [layer for layer in net if isinstance(layer, ResidualBlock)]


def test_parameter_counts():
    k = 9
    stem = k * (3 * 64 + 2 * 64 * 64) + 3 * 2 * 64
    one = k * 4 * 64 * 64 + 4 * 2 * 64
    two = k * (64 * 128 + 3 * 128 * 128) + 64 * 128 + 5 * 2 * 128
    three = k * (128 * 256 + 3 * 256 * 256) + 128 * 256 + 5 * 2 * 256
    four = k * (256 * 512 + 3 * 512 * 512) + 256 * 512 + 5 * 2 * 512
    readout = 512 * 10 + 10
    assert count(resnet20()) == stem + one + two + three + four + readout == 11_247_946
    # MPBN has two numbers a channel of each spiking layer.
    spiking = 3 * 64 + 4 * (64 + 128 + 256 + 512)
    assert count(resnet20(norm="bn", neuron={"kind": "mpbn"})) == 11_247_946 + 2 * spiking

    stem = k * 3 * 128 + 2 * 128
    one = k * 6 * 128 * 128 + 6 * 2 * 128
    two = k * (128 * 256 + 5 * 256 * 256) + 128 * 256 + 7 * 2 * 256
    three = k * (256 * 512 + 3 * 512 * 512) + 256 * 512 + 5 * 2 * 512
    assert count(resnet19()) == stem + one + two + three + readout == 12_569_226

    channels = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    convolutions = sum(k * a * b for a, b in pairwise(channels))
    # Bias, weight and bias of the norm.
    assert count(vgg16()) == convolutions + 3 * sum(channels[1:]) + readout == 14_728_266


def test_a_narrow_network_has_every_layer_narrow():
    net = resnet20(in_channels=2, width=1 / 16)
    convolutions = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions == [4, 4, 4, *[4] * 4, *[8] * 5, *[16] * 5, *[32] * 5]
    with pytest.raises(InputError, match="width must be a number greater than 0"):
        resnet20(width=0)


@pytest.mark.parametrize(
    ("model", "side", "sides"),
    [
        (resnet20, 32, [16, 16, 8, 8, 4, 4, 2, 2]),
        (resnet20, 34, [17, 17, 9, 9, 5, 5, 3, 3]),
        (resnet20, 48, [24, 24, 12, 12, 6, 6, 3, 3]),
        (resnet19, 32, [32, 32, 32, 16, 16, 16, 8, 8]),
    ],
)
def test_sizes_of_images(model, side, sides):
    net = model(in_channels=2, width=1 / 64)
    seen = []
    for block in blocks(net):
        block.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape)))
    assert net(torch.rand(2, 3, 2, side, side)).shape == (2, 3, 10)
    assert [shape[-1] for shape in seen] == sides
    assert all(shape[:2] == (2, 3) and shape[-2] == shape[-1] for shape in seen)


@pytest.mark.parametrize(("model", "pooled"), [(resnet20, True), (resnet19, False)])
def test_factors_of_the_norms_and_kinds_of_shortcuts(model, pooled):
    half = 0.5 / math.sqrt(2)
    for block in blocks(model(width=1 / 64)):
        norms = [layer.scale for layer in block.branch if isinstance(layer, sk.TDBN2d)]
        if isinstance(block.shortcut, nn.Identity):
            assert norms == [0.5, 0.5]
            continue
        assert norms == pytest.approx([0.5, half])
        assert block.shortcut[-1].scale == pytest.approx(half)
        assert isinstance(block.shortcut[0], nn.AvgPool2d) is pooled
        assert block.shortcut[-2].stride == ((1, 1) if pooled else (2, 2))


def test_plain_batch_norm():
    assert not [m for m in resnet20(width=1 / 64, norm="bn").modules() if isinstance(m, sk.TDBN2d)]
    assert len([m for m in vgg16(width=1 / 64, norm="tdbn").modules() if isinstance(m, sk.TDBN2d)]) == 13
    for model in (resnet19, resnet20, vgg16):
        with pytest.raises(InputError, match=f"{model.__name__}: norm: unknown value 'tbn'; did you mean 'tdbn'"):
            model(norm="tbn")


@pytest.mark.parametrize("number", [1, 2])
def test_a_block_is_its_equation(number):
    net = resnet20(width=1 / 16, neuron={"kind": "inflor_snn"}).eval()
    block = blocks(net)[number]
    x = (torch.rand(4, 3, 4, 6, 6) < 0.4).float()
    y = block(x)
    assert 0.02 < y.mean() < 0.98
    first, one, neuron, second, two = block.branch
    drive = torch.stack([one(first(frame)) for frame in x])
    inner = neuron(drive)
    shortcut = torch.stack([frame if number == 1 else block.shortcut(frame[None])[0] for frame in x])
    last = torch.stack([two(second(frame)) for frame in inner]) + shortcut
    assert torch.equal(y, block.neuron(last))


def test_a_block_carries_state_and_is_recorded():
    net = resnet20(width=1 / 32).eval()
    x = torch.rand(5, 2, 3, 16, 16)
    whole = net(x)
    first, state = sk.run(net, x[:2])
    second, _ = sk.run(net, x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-6)
    _, seen = sk.record(net, x)
    assert len(seen) == 3 + 2 * 8
    assert {"10.branch.2.spikes", "10.neuron.spikes"} <= set(seen)


def test_weights_start_as_the_authors_do():
    net = resnet20(width=0.5)
    convolution = next(m for m in net.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 256)
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
    assert net[-1].weight.std().item() == pytest.approx(1 / 256, rel=0.1)
    assert not net[-1].bias.any()


def test_a_readout_sums_the_logits():
    torch.manual_seed(0)
    plain = resnet20(2, 3, 0.1)
    torch.manual_seed(0)
    net = resnet20(2, 3, 0.1, readout=0.9)
    x = torch.rand(2, 2, 2, 8, 8)
    assert torch.equal(net.eval()(x), sk.LI(0.9)(plain.eval()(x)))
