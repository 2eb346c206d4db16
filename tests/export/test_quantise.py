from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.export import to_loihi
from spikekit.export.float_run import run_plan
from spikekit.export.lava.validate import sign_mode
from spikekit.export.quantise import quantise
from spikekit.ops.integer import STATE_MAX
from tests.export.nets import conv_net, frames


def one_neuron(weight: float, bias: float = 0.0, threshold: float = 1.0, beta: float = 0.75) -> sk.Sequential:
    net = sk.Sequential(nn.Linear(1, 1), sk.LIF(beta, threshold))
    nn.init.constant_(net[0].weight, weight)
    nn.init.constant_(net[0].bias, bias)
    return net.double()


def test_one_neuron_by_hand():
    x = torch.ones(2, 1, 1)
    layer = to_loihi(one_neuron(0.5, 0.25), x).layers[0]
    # scale = 254/0.5 = 508. The largest state is 0.75·0.75 + 0.75 = 1.3125, doubled: 2^23/64/508/2.625 is 98,
    # room for 2^6; the threshold fits 17 bits up to 2^8; the bias 0.25·508·64·2^6 = 520,192 fits 4,095·2^7.
    assert layer.scale[0] == 508
    assert layer.exponent == 6
    assert layer.inputs[0].synapses.weight.tolist() == [[254]]
    assert layer.threshold[0] == 508 * 64
    assert layer.quantum[0] == 508 * 64 * 64
    assert layer.bias[0] == 520_192 == layer.bias_mantissa[0] << layer.bias_exponent[0]
    assert layer.decay[0] == 1024


def test_every_row_fills_its_eight_bits_and_stays_in_range():
    x = frames()
    chip = to_loihi(conv_net(), x)
    for layer in chip.layers:
        weight = layer.inputs[0].synapses.weight.reshape(len(layer.inputs[0].synapses.weight), -1)
        assert (weight % 2 == 0).all()
        assert (np.abs(weight).max(1) >= 250).all()
        assert np.abs(weight).max() <= 254
        assert 0 <= layer.exponent <= 7
        assert np.abs(layer.bias_mantissa).max() <= 4095
        assert layer.bias_exponent.max() <= 7
        assert 1 <= layer.threshold.min() <= layer.threshold.max() < 2**17
        assert 0 <= layer.decay.min() <= layer.decay.max() <= 4095
    for trace in chip.trace(x):
        assert trace.membranes.abs().max() < STATE_MAX


def test_scaling_a_row_changes_no_integer():
    net = conv_net()
    scaled = conv_net()
    scaled[5].weight.data[3] *= 8
    scaled[5].bias.data[3] *= 8
    threshold = torch.full((12,), 0.3)
    net[6] = sk.LIF(0.9, threshold.clone())
    threshold[3] *= 8
    scaled[6] = sk.LIF(0.9, threshold)
    a, b = (to_loihi(n, frames()).layers[1] for n in (net, scaled))
    assert np.array_equal(a.inputs[0].synapses.weight, b.inputs[0].synapses.weight)
    assert np.array_equal(a.threshold, b.threshold)
    assert np.array_equal(a.bias, b.bias)


def test_a_row_without_weights_and_a_large_bias_are_kept():
    net = conv_net()
    net[5].weight.data[0] = 0
    net[5].bias.data[0] = 50.0
    net[5].bias.data[1] = 0
    net[5].weight.data[1] = 0
    chip = to_loihi(net, frames())
    layer = chip.layers[1]
    assert abs(layer.bias[0] / layer.unit[0] / 50.0 - 1) < 1e-2
    spikes = chip.trace(frames())[1].spikes
    assert spikes[..., 0].all()
    assert not spikes[..., 1].any()


def test_a_threshold_below_half_a_unit_is_refused():
    with pytest.raises(ExportError, match=r"layer 1: the threshold 1e-0?6 of neuron 0"):
        to_loihi(one_neuron(1e3, threshold=1e-6), torch.ones(2, 1, 1))


@pytest.mark.parametrize("calibration", [torch.ones(2, 3), torch.ones(0, 1, 2, 8, 7), torch.ones(2, 0, 2, 8, 7)])
def test_calibration_needs_data(calibration):
    with pytest.raises(InputError, match=r"calibration must be \[T, B"):
        to_loihi(conv_net(), calibration)


def test_fractions_are_refused():
    with pytest.raises(InputError, match="fractions"):
        to_loihi(conv_net(), frames() * 0.5)


def test_headroom_lowers_the_exponent():
    layers = to_loihi(conv_net(), frames()).plan
    traces = run_plan(layers, frames())
    near, far = (quantise(layers, traces, headroom=h)[1].exponent for h in (1.0, 64.0))
    assert far < near


def test_quantum_apart_from_the_threshold_is_kept():
    net = conv_net(reset_quantum=0.4)
    chip = to_loihi(net, frames())
    for layer, exact in zip(chip.layers[:2], chip.plan[:2], strict=True):
        np.testing.assert_allclose(layer.quantum / layer.unit, exact.quantum, rtol=1e-3)
        assert replace(layer).reset == "soft"


def test_a_quantum_larger_than_every_state_still_fits():
    net = sk.Sequential(nn.Linear(1, 1), sk.LIF(0.75, 1.0, reset_quantum=1000.0)).double()
    nn.init.constant_(net[0].weight, 0.5)
    layer = to_loihi(net, torch.ones(2, 1, 1)).layers[0]
    assert 0.99 * STATE_MAX / 2 < layer.quantum[0] <= STATE_MAX
    with pytest.raises(ExportError, match="threshold 1 of neuron 0 is below half a unit"):
        to_loihi(sk.Sequential(net[0], sk.LIF(0.75, 1.0, reset_quantum=1e6)).double(), torch.ones(2, 1, 1))


@pytest.mark.parametrize("bits", range(4, 9))
def test_fewer_bits_leave_multiples_within_the_range_of_lava(bits):
    for layer in to_loihi(conv_net(), frames(), weight_bits=bits).layers:
        step = 2 ** (9 - bits)
        weight = layer.inputs[0].synapses.weight
        assert layer.weight_bits == bits
        assert (weight % step == 0).all()
        # The fullest row reaches the end of its range, or does but for its states' sake.
        assert np.abs(weight).max() == 256 - step
        assert sign_mode("layer", weight.ravel(), bits) == "MIXED"


@pytest.mark.parametrize("bits", [3, 9, 4.5, True, "8"])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(InputError, match="weight_bits must be a whole number from 4 to 8"):
        to_loihi(conv_net(), frames(), weight_bits=bits)


@pytest.mark.parametrize(("thresholds", "most"), [("neuron", None), ("group", 16), ("layer", 1)])
@pytest.mark.parametrize("bits", [4, 8])
def test_shared_thresholds_are_few_and_mean_the_same(thresholds, most, bits):
    net = conv_net()
    net[5] = nn.Linear(64, 40)
    net[6] = sk.LIF(0.9, torch.rand(40) + 0.1)
    net[7] = nn.Linear(40, 3)
    chip = to_loihi(net, frames(), weight_bits=bits, thresholds=thresholds)
    for layer, exact in zip(chip.layers[:2], chip.plan[:2], strict=True):
        if most is not None:
            assert len(np.unique(layer.threshold)) <= most
        # Rows are scaled to meet the level, so what is left is the rounding of the level itself.
        np.testing.assert_allclose(layer.threshold * 64 / layer.unit, exact.threshold, atol=32 / layer.unit.min())
        assert np.array_equal(layer.quantum, layer.threshold << 6)
        assert np.abs(layer.inputs[0].synapses.weight).max() <= 256 - layer.weight_step
    if thresholds == "neuron":
        assert len(np.unique(chip.layers[1].threshold)) > 16


def test_thresholds_that_differ_inside_a_channel_go_to_the_nearest_level():
    net = conv_net()
    threshold = torch.full((4, 4, 4), 1.0)
    threshold[:, 0] = 4.0
    net[2] = sk.LIF(0.8, threshold)
    chip = to_loihi(net, frames(), thresholds="layer")
    layer, exact = chip.layers[0], chip.plan[0]
    assert len(np.unique(layer.threshold)) == 1
    ratio = layer.threshold * 64 / layer.unit / exact.threshold
    # The level is in the middle of the channel: 12 neurons at 1 and 4 at 4 make 2^(8/16).
    np.testing.assert_allclose(np.unique(ratio.round(3)), [2**0.5 / 4, 2**0.5], atol=2e-3)


def test_cutting_rounds_weights_better_and_clips_some():
    layers = to_loihi(conv_net(), frames()).plan
    traces = run_plan(layers, frames())

    def error(chip, plan):
        rows = chip.inputs[0].synapses.by_row() / chip.row_scale(chip.inputs[0])[:, None]
        return np.square(rows - plan.inputs[0].synapses.by_row()).sum()

    plain, cut = ([*map(error, quantise(layers, traces, weight_bits=4, cut=cut), layers)] for cut in (False, True))
    assert all(b <= a for a, b in zip(plain, cut, strict=True))
    assert sum(cut) < 0.95 * sum(plain)


def test_eight_bits_of_one_row_by_hand_are_four_bits_of_the_same():
    net = sk.Sequential(nn.Linear(3, 1, bias=False), sk.LIF(0.75, 1.0)).double()
    net[0].weight.data = torch.tensor([[0.7, -0.26, 0.04]], dtype=torch.float64)
    layer = to_loihi(net, torch.ones(2, 1, 3), weight_bits=4).layers[0]
    # 224 / 0.7 = 320: 0.7 is 7 steps of 32, -0.26 is -2.6 and becomes -3, 0.04 is 0.4 and becomes 0.
    assert layer.scale[0] == pytest.approx(320)
    assert layer.inputs[0].synapses.weight.tolist() == [[224, -96, 0]]
