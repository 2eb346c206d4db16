"""Max pooling of currents: how it is read, in which units its numbers are sent, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import maximum, qat, to_loihi
from spikekit.export.faithful import check_output
from spikekit.export.float_run import run_plan
from spikekit.export.maximum import maximum_integer
from spikekit.export.plan import plan
from spikekit.ops.integer import STATE_MAX
from tests.export.nets import frames
from tests.export.pooled import Stream, pooled_net


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_plan_repeats_the_network(data):
    draw = data.draw
    window, stride, apart = ((draw(st.integers(1, 3)), draw(st.integers(1, 3))) for _ in range(3))
    pool = nn.MaxPool2d(window, stride, 0, apart)
    if any((k - 1) * d >= size for k, d, size in zip(window, apart, (8, 7), strict=True)):
        return
    net, x = pooled_net(pool, draw(st.integers(0, 99))), frames(3, 5)
    layers = plan(net, x).layers
    assert [(layer.name, layer.graded) for layer in layers] == [("2", True), ("3", False), ("6", False)]
    assert {each.dendrite for each in layers[0].inputs} == set(range(window[0] * window[1]))
    # A convolution that ends in single places of windows is a convolution still.
    assert {each.synapses.kind for each in layers[0].inputs} == {"conv"}
    torch.testing.assert_close(run_plan(layers, x)[-1].membranes, net.double()(x.double()).flatten(2))


def test_the_maximum_of_anything_that_flows_between_neurons():
    net, x = Stream().eval(), frames(3, 6)
    layers = plan(net, x).layers
    assert [layer.name for layer in layers] == ["first.1", "second", "pool", "last.1"]
    assert {(each.source, each.dendrite) for each in layers[2].inputs} == {(s, d) for s in (-1, 0, 1) for d in range(6)}
    found = run_plan(layers, x)[-1].spikes
    assert torch.equal(found, net.double()(x.double()).flatten(2))
    assert 0 < found.mean() < 1


def test_ceil_mode_where_the_last_window_ends_at_the_border():
    net, x = pooled_net(nn.MaxPool2d((2, 3), 2, ceil_mode=True)), frames()
    torch.testing.assert_close(run_plan(plan(net, x).layers, x)[-1].membranes, net.double()(x.double()).flatten(2))


@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        (nn.MaxPool2d(3, 2, 1), r"layer 2 \(MaxPool2d\): its windows reach beyond the border.*padding=0"),
        (nn.MaxPool2d((2, 1), (3, 1), (1, 0)), r"layer 2 \(MaxPool2d\): its windows reach beyond.*padding=0"),
        (nn.MaxPool2d(2, ceil_mode=True), r"layer 2 \(MaxPool2d\): its windows reach beyond.*ceil_mode=False"),
        (nn.MaxPool2d(9), r"layer 2 \(MaxPool2d\) cannot take the shape \(3, 8, 7\)"),
        (nn.MaxPool2d(2, return_indices=True), r"layer 2 \(MaxPool2d\) gives indices.*return_indices=False"),
    ],
)
def test_windows_without_a_maximum_are_refused(pool, reason):
    net = sk.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Identity(), pool, sk.LIF()).eval()
    with pytest.raises(ExportError, match=reason):
        plan(net, frames())


def test_constants_that_differ_inside_a_window_are_refused():
    behind = [nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 3, padding=1, bias=False)]
    with pytest.raises(ExportError, match=r"layer 2 \(MaxPool2d\): the constant .* differs inside a window.*neuron"):
        plan(sk.Sequential(*behind, nn.MaxPool2d(2), sk.LIF()).eval(), frames())
    behind[0].bias = None
    assert plan(sk.Sequential(*behind, nn.MaxPool2d(2), sk.LIF()).eval(), frames()).layers[0].graded


def test_changes_have_no_maximum_even_behind_a_convolution():
    net = sk.Sequential(sk.SigmaDelta(0.1), nn.Conv2d(2, 3, 3, bias=False), nn.MaxPool2d(2), sk.LIF()).eval()
    with pytest.raises(ExportError, match=r"layer 2 \(MaxPool2d\): the messages of sigma-delta neurons are changes"):
        plan(net, frames())


def test_what_has_no_place_for_numbers_is_refused(tmp_path):
    net, x = pooled_net(), frames()
    with pytest.raises(ExportError, match=r"layer 2 .*sends numbers.* which qat does not train"):
        qat(net, x)
    with pytest.raises(ExportError, match=r"layer 2: NIR has no maximum of currents.*pool spikes, behind a neuron"):
        sk.interop.to_nir(net, x)
    with pytest.raises(ExportError, match=r"layer 2 \(MaxPool2d\): target='netx' knows LIF neurons alone"):
        to_loihi(net, x, target="netx")
    with pytest.raises(ExportError, match="layer 2: netx knows LIF neurons, and none that send numbers"):
        to_loihi(net, x).to_netx(tmp_path / "net.net")


def test_a_window_that_is_misread_is_found(monkeypatch):
    whole = maximum.places
    monkeypatch.setattr("spikekit.export.plan.places", lambda *given: whole(*given)[1:])
    with pytest.raises(ExportError, match="the plan does not repeat the network: layer 3: its drive"):
        plan(pooled_net(), frames())


def test_an_output_that_differs_is_told():
    net, x = pooled_net(), frames()
    layers = plan(net, x).layers
    wrong = (replace(layers[0], bias=layers[0].bias + 0.1), *layers[1:])
    with pytest.raises(ExportError, match="the output differs by up to"):
        check_output(net, wrong, run_plan(wrong, x), x)


def test_by_hand():
    net = sk.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 1), sk.LIF(0.5, 0.4, "hard")).eval()
    with torch.no_grad():
        net[1].weight.fill_(0.3)
        net[1].bias.fill_(0.05)
    x = torch.tensor([[[1.0, 0], [0, 0]], [[1, 1], [3, 0]], [[-2, -1], [-3, -2]]])[:, None, None]
    chip = to_loihi(net, x)
    first, second = chip.layers
    # 254 / 1 is more than 128, and 3 · 2 · 128 · 2^7 is in 24 bits.
    assert (first.scale.tolist(), first.exponent, first.bias.tolist()) == ([128.0], 7, [0])
    assert first.inputs[0].synapses.weight.tolist() == [[[[128, 0], [0, 0]]]]
    assert (first.threshold.tolist(), first.reset) == ([0], "none")
    # Messages of 3.0 and more, twice as large as calibration saw, need so many bits.
    assert first.message_bits == 1 + (3 * 2 * 2**first.grain).bit_length()
    assert first.message_shift.tolist() == [14 - first.grain]
    trace = chip.trace(x)[0]
    assert trace.membranes.flatten().tolist() == [2**14, 3 * 2**14, -(2**14)]
    assert trace.spikes.flatten().tolist() == [2**first.grain, 3 * 2**first.grain, -(2**first.grain)]
    # 0.35; 0.175 and 0.95; -0.25.
    assert chip.trace(x)[1].spikes.flatten().tolist() == net(x).bool().flatten().tolist()
    assert second.inputs[0].grain == first.grain


def test_sums_wrap_states_clip_and_messages_round():
    sums = torch.tensor([2.0**17, 2**17 + 1, -(2**17), 2**16, 3, 5, -3, -5, 2**16])[:, None, None]
    bias = torch.tensor([0] * 8 + [2**23 - 1])[:, None, None]
    messages, state = maximum_integer(sums, bias, torch.tensor(2), 6, 2**20)
    assert state.flatten().tolist() == [
        STATE_MAX, -(2**23) + 64 + 1 - 1, STATE_MAX, 2**22, 192, 320, -192, -320, STATE_MAX,
    ]  # fmt: skip
    assert messages.dtype == sums.dtype
    messages, _ = maximum_integer(sums, bias, torch.tensor(7), 6, 1000)
    # 1.5, 2.5, -1.5 and -2.5 units: halves upwards.
    assert messages.flatten().tolist() == [1000, -1000, 1000, 1000, 2, 3, -1, -2, 1000]


@pytest.mark.parametrize("thresholds", ["neuron", "group", "layer"])
@pytest.mark.parametrize("bits", [8, 6, 4])
def test_units_are_powers_of_two_and_messages_have_one(bits, thresholds):
    net = pooled_net(channels=6)
    with torch.no_grad():
        net[1].weight *= torch.logspace(-1, 0.5, 6)
    chip = to_loihi(net, frames(), weight_bits=bits, thresholds=thresholds)
    layer = chip.layers[0]
    assert (np.log2(layer.unit) % 1 == 0).all()
    assert (layer.unit / 2.0**layer.message_shift == 2.0**layer.grain).all()
    # No threshold is shared, so rows keep their own scale.
    assert len(np.unique(layer.unit)) > 2
    # All dendrites of a neuron have the same weights.
    kernels = [np.sort(each.synapses.weight.reshape(6, -1)) for each in layer.inputs]
    assert all((kernel == kernels[0]).all() for kernel in kernels)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e5])
def test_currents_of_any_size_reach_their_receiver(scale):
    net, x = pooled_net(), frames()
    exact = plan(net, x)
    traces = run_plan(exact.layers, x)
    with torch.no_grad():
        net[1].weight *= scale
        net[1].bias *= scale
    net[3].threshold = net[3].threshold * scale
    chip = to_loihi(net, x)
    found = chip.trace(x)
    error = found[0].spikes / 2.0 ** chip.layers[0].grain / scale - traces[0].spikes
    assert error.abs().max() < 0.03 * traces[0].spikes.abs().max()
    # So near that hardly a spike changes.
    assert (found[1].spikes != traces[1].spikes.bool()).double().mean() < 0.02


def test_channels_without_weights_and_poolings_that_are_silent():
    net, x = pooled_net(), frames()
    with torch.no_grad():
        net[1].weight[1] = net[1].bias[1] = net[1].running_mean[1] = 0
    chip = to_loihi(net, x)
    assert not chip.trace(x)[0].spikes.unflatten(2, (3, 12))[:, :, 1].any()
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.zero_()
    chip = to_loihi(net, x)
    assert 2 <= chip.layers[0].message_bits <= 16
    assert not chip.trace(x)[0].spikes.any()


def test_poolings_of_what_is_silent():
    """All that the second hears are channels without weights, of numbers that are 0."""
    net, x = pooled_net(), frames()
    net = sk.Sequential(*net[:3], nn.Conv2d(3, 2, 1, bias=False), nn.MaxPool2d((2, 1)), sk.LIF()).eval()
    with torch.no_grad():
        for layer in (net[1].weight, net[1].bias, net[3].weight):
            layer.zero_()
    chip = to_loihi(net, x)
    assert [layer.graded for layer in chip.layers] == [True, True, False]
    assert not any(trace.spikes.any() for trace in chip.trace(x))


def test_it_may_be_the_last_layer():
    net, x = sk.Sequential(*pooled_net()[:3]), frames()
    chip = to_loihi(net, x)
    assert chip.layers[0].message_bits == 16
    torch.testing.assert_close(chip.simulate(x), net(x), rtol=0, atol=0.02)
