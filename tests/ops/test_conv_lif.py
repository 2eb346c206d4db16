"""Convolution and LIF in one pass: the spikes and the state of the two layers one after the other, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
import spikekit.ops.conv as conv_op
import spikekit.ops.conv_lif as op
from spikekit.errors import InputError
from spikekit.ops.conv import cpu as conv_cpu
from spikekit.ops.conv import events
from spikekit.ops.conv_lif import cpu


@pytest.fixture
def fused(always_fused):
    """Every convolution by events; the shapes of the images that were run in one pass."""
    return always_fused(cpu, conv_op, events, op)


CONVOLUTIONS = {
    "strided": ((4, 3, 2, 9, 8), {"out_channels": 16, "kernel_size": 3, "stride": 2, "padding": 1}),
    "not whole vectors": ((5, 2, 3, 6, 7), {"out_channels": 19, "kernel_size": (2, 3), "dilation": 2}),
    "one of each": ((1, 1, 1, 1, 1), {"out_channels": 1, "kernel_size": 1}),
    "wide": ((2, 5, 4, 5, 5), {"out_channels": 70, "kernel_size": 3, "padding": "valid"}),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_same_graded_spikes(fused, poison, name, dtype, reset, threads, graded_spikes, one_by_one):
    shape, settings = CONVOLUTIONS[name]
    outer = settings["out_channels"]
    each = torch.rand(outer, dtype=dtype)
    for neuron in (sk.LIF(0.9, reset=reset), sk.LIF(each, 0.3, reset, reset_quantum=each + 0.1, inclusive=True)):
        for bias in (True, False):
            conv = nn.Conv2d(shape[2], **settings, bias=bias, dtype=dtype)
            net = sk.Sequential(conv, neuron, nn.Identity())
            x = graded_spikes(*shape, dtype=dtype)
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                with torch.no_grad():
                    y, state = sk.run(net, x)
                    expected, end = one_by_one(net, x)
            finally:
                torch.set_num_threads(before)
            assert torch.equal(y, expected)
            assert y.stride() == expected.stride()
            assert torch.equal(state["1"]["v"], end["1"]["v"])
            assert fused.pop() == (shape[0] * shape[1], *shape[2:])
            assert not fused


def test_a_network_is_carried_on(fused, graded_spikes):
    net = sk.Sequential(
        *(nn.Conv2d(2, 8, 3), sk.LIF(), nn.Conv2d(8, 5, 3, 2), sk.IF()), *(nn.Flatten(), nn.Linear(45, 4), sk.LI())
    )
    x = graded_spikes(9, 3, 2, 9, 9)
    with torch.no_grad():
        whole, end = sk.run(net, x)
        state, pieces = None, []
        for piece in x.split(4):
            y, state = sk.run(net, piece, state)
            pieces.append(y)
    assert len(fused) == 2 * (1 + 3)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=0)
    for name in end:
        assert torch.equal(state[name]["v"], end[name]["v"])


def test_numbers_that_are_not_finite_are_named_like_without(fused, graded_spikes):
    net = sk.Sequential(nn.Conv2d(1, 2, 3, padding=1), sk.LIF())
    x = graded_spikes(3, 2, 1, 5, 5)
    x[1, 1, 0, 2, 2] = torch.inf
    with torch.no_grad(), pytest.raises(InputError, match=r"layer 1: LIF.*at \[T, B, ...\] = \[1, 1, 0, 1, 1\]"):
        net(x)
    assert fused
    with torch.no_grad():
        net[0].weight[0] = torch.nan
    with torch.no_grad(), pytest.raises(InputError, match=r"layer 1: LIF.*drive holds nan"):
        net(torch.zeros(3, 2, 1, 5, 5))


def test_not_where_somebody_wants_what_lies_between(fused, graded_spikes):
    net = sk.Sequential(nn.Conv2d(1, 2, 3), sk.LIF())
    x = graded_spikes(3, 2, 1, 5, 5)
    net(x)
    with torch.no_grad():
        sk.record(net, x, ["1.drive"])
        for layer in net:
            handle = layer.register_forward_hook(lambda *args: None)
            net(x)
            handle.remove()
        sk.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), sk.LIF()).eval()(x)
        sk.Sequential(nn.Conv2d(2, 2, 3, groups=2), sk.LIF())(graded_spikes(3, 2, 2, 5, 5))
        assert not fused
        net(x)
        assert fused


def test_a_compiled_network_runs_it_too(fused, graded_spikes):
    net = sk.Sequential(nn.Conv2d(2, 8, 3), sk.LIF(), nn.Conv2d(8, 5, 3, 2), sk.IF(), nn.Flatten())
    x = graded_spikes(9, 3, 2, 9, 9)
    with torch.no_grad():
        expected = net(x)
        fused.clear()
        found = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    assert len(fused) == 2
    assert torch.equal(found, expected)


def test_opcheck(graded_spikes):
    x, weight, bias = graded_spikes(4, 3, 2, 6, 6), torch.randn(7, 2, 3, 3), torch.randn(7)
    numbers = [torch.tensor(value) for value in (0.9, 1.0, 1.0)]
    steps = [1, 2, 0, 1, 1, 1]
    for b, v0 in ((bias, None), (None, torch.randn(3, 7, 4, 3))):
        arguments = (x, weight, b, steps, v0, *numbers, "soft", False)
        torch.library.opcheck(torch.ops.spikekit.conv2d_lif.default, arguments)


def test_the_self_test_finds_a_fault(monkeypatch):
    made = conv_cpu.convolution
    monkeypatch.setattr(conv_cpu, "convolution", lambda x, w, b, steps: made(x, 2 * w, b, steps))
    with pytest.raises(ArithmeticError, match="other spikes"):
        cpu._self_test(torch.float32)


def test_folded_networks_and_idle_layers_between_run_in_one_pass(fused, graded_spikes, one_by_one):
    layers = (nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), sk.LIF(norm=sk.MPBN(8, positive=True)))
    net = sk.Sequential(*layers, nn.Identity(), nn.Flatten(), nn.Linear(8 * 9, 4), sk.LIF())
    x = graded_spikes(6, 16, 2, 5, 5)
    net(x)
    folded = sk.fold(net.eval())
    fused.clear()
    with torch.no_grad():
        y, state = sk.run(folded, x)
        assert fused == [(6 * 16, 2, 5, 5)]
        expected, end = one_by_one(folded, x)
    assert torch.equal(y, expected)
    for name in end:
        assert torch.equal(state[name]["v"], end[name]["v"])
    fused.clear()
    with torch.no_grad():
        net[3].norm.weight_raw.sub_(3)
        net.train()(x)
    assert not fused


def test_flipped_channels_do_not(fused, graded_spikes):
    net = sk.Sequential(nn.Conv2d(2, 8, 3), sk.LIF(norm=sk.MPBN(8)))
    x = graded_spikes(6, 16, 2, 5, 5)
    net(x)
    with torch.no_grad():
        net[1].norm.weight[3] = -1
        sk.fold(net.eval())(x)
    assert not fused
