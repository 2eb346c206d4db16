from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.export import LoihiNet, layer_reports, qat, quantisation_loss, to_loihi
from spikekit.export.float_run import run_layer, run_plan
from spikekit.export.integer import arriving, fire
from spikekit.export.tables import loss_table
from tests.export.nets import conv_net, frames


def changed(chip, index, **fields):
    layers = list(chip.layers)
    layers[index] = replace(layers[index], **fields)
    return replace(chip, layers=tuple(layers))


def scaled(layer, factor):
    """The layer with its weights multiplied, which its scale then misstates."""
    (only,) = layer.inputs
    return {"inputs": (replace(only, synapses=only.synapses.with_weight(only.synapses.weight * factor)),)}


def test_every_figure_by_hand():
    chip, x = to_loihi(conv_net(), frames(), weight_bits=5), frames(batch=8, seed=3)
    loss = quantisation_loss(chip, x)
    integer, exact = chip.trace(x), chip.trace_float(x)
    for row, layer, plan, trace, wanted in zip(loss.layers, chip.layers, chip.plan, integer, exact, strict=True):
        float_weight = plan.inputs[0].synapses.weight.reshape(len(plan.inputs[0].synapses.weight), -1)
        weight = layer.inputs[0].synapses.weight.reshape(float_weight.shape) / layer.row_scale(layer.inputs[0])[:, None]
        error = np.sqrt(np.square(weight - float_weight).sum() / np.square(float_weight).sum())
        assert row.weight_error == pytest.approx(error)
        beyond = np.rint(np.abs(float_weight) * layer.row_scale(layer.inputs[0])[:, None] / 16) > 15
        assert row.clipped_weights == beyond.sum()
        assert (row.weight_bits, row.wrapped, row.saturated) == (5, 0, 0)
        differs = trace.spikes != wanted.spikes.bool()
        assert row.first_difference == (int(differs.any(2).any(1).nonzero()[0]) if differs.any() else None)
        counts = trace.spikes.sum(0).double() - wanted.spikes.sum(0)
        assert row.spike_count_error == pytest.approx(counts.abs().mean().item())
        if layer.fires:
            assert row.thresholds == len(np.unique(layer.threshold))
            assert 0 < row.threshold_error < 0.02
    assert loss.layers[-1].thresholds == 0
    output, wanted = chip.simulate(x).double(), exact[-1].membranes
    assert loss.output_error == pytest.approx(((output - wanted).norm() / wanted.norm()).item(), rel=1e-5)
    # The first layer sees the same input either way.
    assert loss.layers[0].alone_count_error == loss.layers[0].spike_count_error > 0


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_layer_that_is_damaged_is_the_one_that_is_named(index):
    chip, x = to_loihi(conv_net(), frames()), frames(seed=3)
    damaged = changed(chip, index, **scaled(chip.layers[index], -1))
    loss = quantisation_loss(damaged, x)
    assert loss.worst.name == chip.layers[index].name
    assert f"layer {chip.layers[index].name} hurts most" in str(loss)
    sound = quantisation_loss(chip, x)
    for i, (a, b) in enumerate(zip(loss.layers, sound.layers, strict=True)):
        assert (a.alone_output_error == b.alone_output_error) == (i != index)


def test_a_last_layer_that_spikes_is_judged_by_its_spikes():
    chip, x = to_loihi(conv_net()[:7], frames(), weight_bits=4), frames(seed=3)
    loss = quantisation_loss(chip, x)
    wanted = chip.trace_float(x)[-1].spikes
    assert loss.output_error == pytest.approx(((chip.simulate(x).flatten(2) - wanted).norm() / wanted.norm()).item())


def test_wraps_and_saturation_are_counted():
    chip = to_loihi(conv_net(), frames(density=0.02), headroom=1.0)
    layer = chip.layers[0]
    loud = 40 * torch.ones(4, 2, 2, 8, 7)
    row = quantisation_loss(chip, loud).layers[0]
    sums = layer.inputs[0].synapses.apply(loud.flatten(0, 1).flatten(1).double()).long() << (layer.exponent + 6)
    assert row.wrapped == int(((sums > 2**23) | (sums <= -(2**23))).sum()) > 0
    assert row.saturated == int((chip.trace(loud)[0].membranes.abs() == 2**23 - 1).sum()) > 0
    assert layer_reports(chip, loud)[0].saturated == row.saturated


def test_clipped_weights_are_counted():
    learner = qat(conv_net(), frames(), weight_bits=8)
    with torch.no_grad():
        learner.layers[1].weights[0][2, :5] = 100.0
    rows = quantisation_loss(to_loihi(learner, frames()), frames()).layers
    assert rows[1].clipped_weights == 5
    assert rows[2].clipped_weights == 0


def test_nothing_lost_is_said_so():
    chip = to_loihi(conv_net(), frames())
    silent = replace(chip, plan=chip.plan[:1], layers=chip.layers[:1])
    loss = quantisation_loss(silent, torch.zeros(2, 1, 2, 8, 7))
    assert isinstance(silent, LoihiNet)
    assert loss.worst is None
    assert "no layer alone changes it" in str(loss)
    assert loss.layers[0].first_difference is None


def test_it_is_plain_data_and_a_table():
    loss = quantisation_loss(to_loihi(conv_net(), frames(), weight_bits=4), frames())
    assert json.loads(json.dumps(asdict(loss)))["layers"][0]["weight_bits"] == 4
    text = loss_table(loss)
    assert "output error alone" in text
    assert text.splitlines()[-1] == str(loss)
    assert len({len(line) for line in text.splitlines()[1:5]}) == 1


def test_rows_that_an_outlier_wipes_out_are_counted():
    """One threshold for all: the row with large weights sets the scale of every other."""
    torch.manual_seed(0)
    net = sk.Sequential(nn.Flatten(), nn.Linear(112, 30), sk.LIF(0.9, 0.5), nn.Linear(30, 2), sk.LI()).eval()
    net[1].weight.data[0] *= 1000
    losses = [
        quantisation_loss(to_loihi(net, frames(), thresholds=kind), frames()).layers[0] for kind in ("layer", "neuron")
    ]
    assert [loss.lost_rows for loss in losses] == [29, 0]


def test_it_is_of_an_exported_network():
    with pytest.raises(InputError, match=r"give what to_loihi made, got QATNetwork"):
        quantisation_loss(qat(conv_net(), frames()), frames())


class Skipping(nn.Module):
    """The last layer hears both that are before it."""

    temporal = True

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = sk.Sequential(nn.Flatten(), nn.Linear(112, 6), sk.LIF(0.9, 0.4))
        self.b = sk.Sequential(nn.Linear(6, 6), sk.LIF(0.9, 0.2))
        self.c = sk.Sequential(nn.Linear(12, 3), sk.LI(0.9))

    def forward(self, x):
        a = self.a(x)
        return self.c(torch.cat([a, self.b(a)], 2))


def test_a_layer_alone_in_a_network_that_branches():
    """By hand: the second layer in integers, the first and the last in float64."""
    chip, x = to_loihi(Skipping().eval(), frames(), weight_bits=4), frames(seed=3)
    exact = run_plan(chip.plan, x)
    sent = {-1: x.flatten(2), 0: exact[0].spikes}
    spikes = fire(chip.layers[1], arriving(chip.layers[1], sent))[0].flatten(2).double()
    found = run_layer(chip.plan[2], sent | {1: spikes}).membranes
    wanted = exact[2].membranes
    row = quantisation_loss(chip, x).layers[1]
    assert row.alone_output_error == pytest.approx(float((found - wanted).norm() / wanted.norm()))
    assert row.alone_output_error > 0


def test_the_error_of_an_output_that_is_zero_is_its_size():
    chip, x = to_loihi(conv_net(), frames()), frames(seed=3)
    last = chip.plan[-1]
    zero = replace(last, **scaled(last, 0.0), bias=0 * last.bias)
    found = quantisation_loss(replace(chip, plan=(*chip.plan[:-1], zero)), x).output_error
    output = chip.trace(x)[-1].membranes.double() / torch.from_numpy(chip.layers[-1].unit)
    assert found == pytest.approx(float(output.square().mean().sqrt()))
