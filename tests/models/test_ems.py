"""EMS-YOLO: its size, what its convolutions see, and the exact promises of its shortcuts."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.measure import neurobench
from spikekit.models import DETECTORS, EMSBlock, build_detector, ems_res10, ems_res18, ems_res34
from spikekit.models.ems_blocks import checkpoint_blocks, convolutions, verify_binary


def spiking(channels):
    return sk.presets.ems()


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def events(*shape):
    return (torch.rand(shape) < 0.2).float()


def zero_gammas(block):
    """Switch off all but the identity half: the branch, and z where there is one."""
    nn.init.zeros_(block.branch[-1].weight)
    if block.side is not None:
        nn.init.zeros_(block.side[-1].weight)
    return block


def test_parameters_are_those_published():
    assert round(parameters(ems_res10(in_channels=2, classes=2)) / 1e6, 2) == 6.21
    assert round(parameters(ems_res18(in_channels=2, classes=2)) / 1e6, 2) == 9.34


def test_the_ann_and_ms_twins_have_equal_shape():
    ems, ann = ems_res10(width=1 / 16), ems_res10(width=1 / 16, ann=True)
    assert [p.shape for p in ems.parameters()] == [p.shape for p in ann.parameters()]
    assert not any(isinstance(module, sk.Neuron) for module in ann.modules())
    x = torch.rand(1, 1, 3, 64, 64)
    assert ann(x).shape == ems(x).shape
    assert sum(isinstance(m, nn.ReLU) for m in ann.modules()) == sum(isinstance(m, sk.LIF) for m in ems.modules())


@pytest.mark.parametrize("make", [ems_res10, ems_res18, ems_res34])
def test_predictions_of_two_scales(make):
    net = make(in_channels=2, classes=4, width=1 / 16)
    y = net(events(3, 2, 2, 64, 96))
    assert y.shape == (3, 2, 3 * (4 * 6 + 2 * 3), 9)
    y.square().mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


def test_a_prediction_looks_at_its_own_cell():
    """The order of the N predictions is anchor, row, column, the finer scale first."""
    net = ems_res10(in_channels=1, width=1 / 16).eval()
    inside = {}
    net.detect[0].register_forward_hook(lambda m, i, y: inside.update(medium=y))
    net.detect[1].register_forward_hook(lambda m, i, y: inside.update(large=y))
    y = net(events(1, 1, 1, 64, 96))
    medium = inside["medium"].unflatten(2, (3, 7))  # [T, B, anchor, 7, H, W]
    large = inside["large"].unflatten(2, (3, 7))
    assert torch.equal(y[0, 0, (2 * 4 + 1) * 6 + 5], medium[0, 0, 2, :, 1, 5])
    assert torch.equal(y[0, 0, 3 * 4 * 6 + (1 * 2 + 1) * 3 + 2], large[0, 0, 1, :, 1, 2])


@pytest.mark.parametrize("make", [ems_res10, ems_res18, ems_res34])
def test_every_convolution_in_the_blocks_sees_spikes(make):
    """Also on real images, over several steps and in training; stem and detection layers are the exceptions."""
    net = make(width=1 / 16, strict=True)
    for mode in (True, False):
        net.train(mode)(torch.randn(3, 2, 3, 64, 64))
    real = {row.name for row in neurobench(net, torch.randn(3, 2, 3, 64, 64)).layers if not row.spiking}
    assert real == {"stem.0", "detect.0.0", "detect.1.0"}
    count = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    assert len(convolutions(net)) == count - 3


def test_strict_finds_what_is_real():
    with pytest.raises(InputError, match=r"middle\.0\.0\.project\.0: strict: its input must be spikes"):
        ems_res10(width=1 / 16, shortcut="ms", strict=True)(torch.randn(1, 1, 3, 32, 32))
    with pytest.raises(InputError, match="strict"):
        ems_res10(width=1 / 16, ann=True, strict=True)(torch.randn(1, 1, 3, 32, 32))
    block = EMSBlock(4, 4, lambda channels: nn.Identity())
    handles = verify_binary(block)
    x = torch.eye(4).expand(1, 1, 4, 4, 4) - 0.5 * (torch.arange(64).view(1, 1, 4, 4, 4) == 0)
    with pytest.raises(InputError, match=r"branch\.1: strict.* 1 of 64 values are not, the first 0\.5"):
        block(x)
    for handle in handles:
        handle.remove()
    block(x)


def test_the_identity_passes_through_the_block():
    """With γ of the branch at 0, an MS-Block is the identity, bit for bit."""
    x = torch.randn(3, 2, 4, 6, 6)
    assert torch.equal(zero_gammas(EMSBlock(4, 4, spiking, hidden=2))(x), x)


@given(stride=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99))
def test_the_identity_half_of_block2_is_the_pooled_input(stride, seed):
    torch.manual_seed(seed)
    x = torch.randn(3, 2, 4, 6, 6)
    block = zero_gammas(EMSBlock(4, 9, spiking, stride=stride, concat=True))
    y = block(x)
    assert torch.equal(y[:, :, 5:], nn.functional.max_pool2d(x.flatten(0, 1), stride).unflatten(0, (3, 2)))
    assert not y[:, :, :5].any()
    # The gradient of the input is that of the pooling alone.
    wanted, x = x.clone().requires_grad_(), x.requires_grad_()
    block(x)[:, :, 5:].square().sum().backward()
    nn.functional.max_pool2d(wanted.flatten(0, 1), stride).square().sum().backward()
    assert torch.equal(x.grad, wanted.grad)


@given(seed=st.integers(0, 99))
def test_pooling_and_firing_commute_at_the_first_step_alone(seed):
    """The threshold is monotone, so the largest drive fires if any does; membranes carried on are not those pooled."""
    torch.manual_seed(seed)
    lif, pool = sk.presets.ems(), sk.fold_time(nn.MaxPool2d(2))
    x = torch.rand(4, 2, 3, 32, 32) * 0.7
    a, b = lif(pool(x)), pool(lif(x))
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])


def test_block1_fires_behind_its_pooling():
    """The order matters beyond the first step, so it is the paper's: MaxPool, LIF, 1×1 conv, BN."""
    block = EMSBlock(4, 6, spiking, stride=2).eval()
    x = torch.randn(3, 2, 4, 6, 6)
    pooled = nn.functional.max_pool2d(x.flatten(0, 1), 2).unflatten(0, (3, 2))
    fired = block.project[0](pooled).flatten(0, 1)
    wanted = block.project[2](block.project[1](fired)).unflatten(0, (3, 2))
    assert torch.allclose(block.shortcut(x), wanted, atol=1e-6)


def test_gammas_start_as_published():
    block = EMSBlock(4, 6, spiking, stride=2, concat=True)
    assert block.branch[2].weight.mean().item() == 0.5
    assert block.branch[5].weight.mean().item() == pytest.approx(0.1)
    assert block.side[2].weight.mean().item() == 0.5


def test_streaming_is_one_call():
    net = ems_res10(in_channels=2, width=1 / 16).eval()
    x = events(4, 1, 2, 32, 32)
    with torch.no_grad():
        first, state = sk.run(net, x[:1])
        rest, _ = sk.run(net, x[1:], state)
        assert torch.allclose(torch.cat([first, rest]), net(x), atol=1e-5)


def buffers(net):
    return torch.cat([b.flatten().double() for b in net.buffers()])


def test_checkpointed_blocks_train_alike():
    """Outputs, gradients and running statistics are those of the network as it was."""
    torch.manual_seed(0)
    net = ems_res10(in_channels=2, classes=4, width=1 / 8)
    again = checkpoint_blocks(copy.deepcopy(net))
    assert checkpoint_blocks(again) is again
    names = [name.replace("module.", "") for name, _ in again.named_parameters()]
    assert names == [name for name, _ in net.named_parameters()]
    x = events(5, 2, 2, 64, 64)
    ys = [one(x) for one in (net, again)]
    for y in ys:
        y.sigmoid().square().sum().backward()
    assert torch.equal(*ys)
    assert torch.equal(buffers(net), buffers(again))
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-5 * float(a.grad.abs().max()))


def test_checkpointed_blocks_keep_a_fraction_of_the_memory():
    def kept(net):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(events(8, 1, 2, 64, 64))
        return total

    net = ems_res10(in_channels=2, width=1 / 8)
    assert kept(checkpoint_blocks(copy.deepcopy(net))) < kept(net) / 3


def test_checkpointed_blocks_stream():
    net = ems_res10(in_channels=2, width=1 / 16).eval()
    again = checkpoint_blocks(copy.deepcopy(net))
    x = events(4, 1, 2, 64, 64)
    first, state = sk.run(again, x[:1])
    rest, _ = sk.run(again, x[1:], state)
    assert torch.equal(torch.cat([first, rest]), net(x))


def test_mistakes_are_named():
    net = ems_res10(width=1 / 16)
    with pytest.raises(InputError, match="multiples of 32"):
        net(torch.rand(1, 1, 3, 40, 64))
    with pytest.raises(InputError, match="outputs must be 8 or more, got 4"):
        EMSBlock(8, 4, spiking, concat=True)
    with pytest.raises(InputError, match="anchors must be"):
        ems_res10(width=1 / 16, anchors=[[[1, 2]]])
    with pytest.raises(InputError, match="leave neuron out"):
        ems_res10(ann=True, neuron={"beta": 0.5})
    with pytest.raises(InputError, match="shortcut"):
        ems_res10(shortcut="sew")
    for name, value in (("classes", 0), ("classes", "a"), ("classes", 1.5), ("classes", True), ("in_channels", 0)):
        with pytest.raises(InputError, match=f"{name} must be a whole number of 1 or more, got {value!r}"):
            ems_res10(width=1 / 16, **{name: value})
    with pytest.raises(InputError, match="unknown detector 'ems_res50'"):
        build_detector("ems_res50")
    with pytest.raises(InputError, match="detector 'ems_res10'"):
        build_detector("ems_res10", {"depth_factor": 2})
    assert set(DETECTORS) == {"ems_res10", "ems_res18", "ems_res34"}
