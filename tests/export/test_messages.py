"""Sigma-delta layers in integers: units of states and messages, what limits them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import quantise, to_loihi
from spikekit.export.float_run import run_plan
from spikekit.export.messages import MESSAGE_BITS_MAX, MESSAGE_SHIFT_MAX
from spikekit.export.plan import plan
from spikekit.ops.integer import STATE_MAX


def sdn(*sizes, threshold=0.1, seed=0, readout=True, **given):
    torch.manual_seed(seed)
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out, bias=False), sk.SigmaDelta(threshold, **given)]
    return sk.Sequential(*layers, *([nn.Linear(sizes[-1], 3), sk.LI(1.0)] if readout else [])).eval()


def changes(steps=20, batch=4, n=6, most=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, (steps, batch, n), generator=generator).float()


def test_by_hand():
    net = sk.Sequential(nn.Linear(3, 1, bias=False), sk.SigmaDelta(0.25, bias=0.1), nn.Linear(1, 1), sk.LI(1.0))
    net = net.double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.7, -0.26, 0.043]]))
        net[2].weight.fill_(0.8)
        net[2].bias.zero_()
    x = torch.tensor([[1.0, 0, 1], [1, 1, 0], [0, -1, 2], [-1, 0, -3]]).double().unsqueeze(1)
    layer, readout = to_loihi(net, x).layers
    # 254 / 0.7 is 362, the power of two below it 256; sigma reaches 1.53, which is 0.05 of 2^23 / 256 / 2^7.
    assert (layer.scale.tolist(), layer.exponent) == ([256.0], 7)
    assert layer.inputs[0].synapses.weight.tolist() == [[180, -66, 12]]
    assert (layer.bias.tolist(), layer.threshold.tolist()) == ([round(0.1 * 2**15)], [2**13])
    # A quarter of the threshold is 1/16: messages are states shifted by 15 - 4 bits. Twice 0.843 needs 5 of them.
    assert (layer.grain, layer.message_shift.tolist(), layer.message_bits) == (4, [11], 6)
    # The readout's weight is of messages: 0.8 · scale / 16.
    assert readout.inputs[0].grain == 4
    assert readout.inputs[0].synapses.weight.tolist() == [[round(0.8 * readout.scale[0] / 16)]]
    sent = to_loihi(net, x).trace(x)[0]
    # sigma: 192, 306, 396, 180 times 128; 0.842 is 13.5 sixteenths.
    assert sent.membranes.flatten().tolist() == [24_576, 39_168, 50_688, 23_040]
    assert sent.spikes.flatten().tolist() == [14, 7, 5, -13]


@pytest.mark.parametrize("thresholds", ["neuron", "group", "layer"])
@pytest.mark.parametrize("bits", [8, 6, 4])
def test_units_are_powers_of_two_and_messages_have_one(bits, thresholds):
    net = sdn(6, 40, 9, threshold=0.1)
    with torch.no_grad():
        net[0].weight *= torch.logspace(-1, 0.5, 40)[:, None]
    chip = to_loihi(net, changes(), weight_bits=bits, thresholds=thresholds)
    for layer in chip.layers[:2]:
        assert (np.log2(layer.unit) % 1 == 0).all()
        assert (layer.unit / 2.0**layer.message_shift == 2.0**layer.grain).all()
        assert layer.inputs[0].synapses.weight.max() <= 256 - layer.weight_step
    assert len(np.unique(chip.layers[0].unit)) > 3 or thresholds != "neuron"
    assert len(np.unique(chip.layers[0].threshold)) <= {"neuron": 40, "group": 16, "layer": 1}[thresholds]
    assert [p.grain for layer in chip.layers for p in layer.inputs] == [None, *(la.grain for la in chip.layers[:2])]


def test_many_thresholds_are_brought_to_few():
    torch.manual_seed(0)
    net = sdn(6, 40)
    net[1].threshold = torch.rand(40) * 0.2 + 0.05
    for thresholds, most in (("group", 16), ("layer", 1)):
        layer = to_loihi(net, changes(), thresholds=thresholds).layers[0]
        assert len(np.unique(layer.threshold)) <= most
        assert (layer.threshold > 0).all()


def test_integers_follow_the_floats():
    net, x = sdn(6, 20, 15, 10, threshold=0.05, bias=0.1), changes(50)
    chip = to_loihi(net, x)
    error = (chip.simulate(x) - net(x)).abs().max() / net(x).abs().max()
    assert error < 0.05


def test_what_a_message_leaves_out_comes_later():
    """After many steps the readout is as near as after few: roundings do not add up."""
    net = sdn(6, 20, 10, threshold=0.02, activation="none")
    x = changes(400, most=1)
    chip = to_loihi(net, x)
    behind = (chip.simulate(x) - net(x)).abs().amax((1, 2))
    assert behind[-100:].mean() < 3 * behind[20:120].mean()


def test_a_finer_grain_where_the_receiver_has_bits_for_it():
    net, x = sdn(6, 8, threshold=1.0), 30 * changes()
    wide = sk.Sequential(*net[:2], nn.Linear(8, 3, bias=False), sk.SigmaDelta(1.0)).eval()
    # A spiking receiver shifts what arrives by 6 bits, and has so many fewer for the message.
    narrow = sk.Sequential(*wide[:3], sk.LIF(1.0, reset="none")).eval()
    with torch.no_grad():
        wide[2].weight *= 0.1
    grains = [to_loihi(each, x).layers[0].grain for each in (wide, narrow)]
    assert grains[1] < grains[0] == 2


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e5])
def test_activities_of_any_size(scale):
    """Thresholds and weights of any size together: the same network, as powers of two change no digit."""
    net, x = sdn(6, 12, 8, threshold=0.05), changes()
    with torch.no_grad():
        net[0].weight *= scale
        net[2].weight *= 1
        net[4].weight *= 1 / scale
    for neuron in (net[1], net[3]):
        neuron.threshold = neuron.threshold * scale
    chip = to_loihi(net, x)
    for layer in chip.layers[:2]:
        assert 0 <= layer.message_shift.min() <= layer.message_shift.max() <= MESSAGE_SHIFT_MAX
        assert 2 <= layer.message_bits <= MESSAGE_BITS_MAX
    error = (chip.simulate(x) - net(x)).abs().max() / net(x).abs().max()
    assert error < 0.1


def test_tiny_thresholds_send_everything():
    net, x = sdn(6, 12, 8, threshold=1e-9), changes()
    chip = to_loihi(net, x)
    assert all(layer.message_bits <= MESSAGE_BITS_MAX and (layer.threshold >= 1).all() for layer in chip.layers[:2])
    assert (chip.simulate(x) - net(x)).abs().max() / net(x).abs().max() < 0.05


def test_silent_rows_and_silent_layers():
    net, x = sdn(6, 12, 8, threshold=torch.tensor(0.5)), changes()
    with torch.no_grad():
        net[0].weight[3:] = 0
        net[2].weight[:, 3:] = 0
    chip = to_loihi(net, x)
    assert torch.isfinite(chip.simulate(x)).all()
    quiet = to_loihi(net, torch.zeros_like(x))
    assert not quiet.trace(x * 0)[0].spikes.any()


def test_headroom_holds_states_and_messages():
    net, x = sdn(6, 12, 8), changes()
    chip = to_loihi(net, x, headroom=4.0)
    for layer, trace in zip(chip.layers[:2], chip.trace(4 * x), strict=False):
        assert int(trace.membranes.abs().max()) < STATE_MAX
        assert int(trace.spikes.abs().max()) <= layer.largest


def test_sums_beyond_lava_are_refused():
    net, x = sdn(6, 4, threshold=1e-4), changes()
    layers = plan(net, x).layers
    wide = replace(
        layers[1],
        inputs=tuple(
            replace(p, synapses=replace(p.synapses, weight=np.ones((3, 4000)), in_shape=(4000,)))
            for p in layers[1].inputs
        ),
    )
    traces = run_plan(layers, x)
    with pytest.raises(ExportError, match=r"layer 3: messages of up to 16,383 .* Lava sums in 32 bits"):
        quantise.quantise((layers[0], wide), traces)


def test_netx_is_refused():
    with pytest.raises(ExportError, match=r"layer 1 \(SigmaDelta\): target='netx' knows LIF neurons alone"):
        to_loihi(sdn(6, 4), changes(), target="netx")
