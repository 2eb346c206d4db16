"""Facts, costs and summary of an exported network, against counts by hand and against its own reports."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.export import layer_reports, to_loihi
from spikekit.export.cost.costs import costs
from spikekit.export.cost.energy import CHIPS, EnergyModel
from spikekit.export.cost.facts import facts, wirings
from spikekit.export.cost.targets import LOIHI1, LOIHI2
from spikekit.export.page.summary import as_json, summarise
from spikekit.export.synapses import SELF
from spikekit.measure import neurobench
from tests.export.nets import conv_net, frames


@pytest.fixture(scope="module")
def x():
    return frames()


@pytest.fixture(scope="module")
def chip(x):
    return to_loihi(conv_net(), x)


def by_matrix(chip, x, layer):
    """Synaptic operations per sample of one layer: every spike times the synapses of a matrix, one by one."""
    sent = {-1: x.flatten(2), **{number: trace.spikes for number, trace in enumerate(chip.trace(x))}}
    number, total = chip.layers.index(layer), 0.0
    for each in layer.inputs:
        unit = torch.eye(each.synapses.n_in, dtype=torch.float64)
        there = torch.from_numpy(np.abs(each.synapses.weight).astype(np.float64))
        matrix = replace(each.synapses, weight=(there > 0).double().numpy()).apply(unit)
        total += float((sent[number if each.source == SELF else each.source].double().abs() @ matrix).sum())
    return total / x.shape[1]


def small():
    """Two inputs, two neurons that fire whenever their input does, one readout; one weight is zero."""
    net = sk.Sequential(nn.Linear(2, 2, bias=False), sk.LIF(0.0, 0.5), nn.Linear(2, 1, bias=False), sk.LI(0.9))
    net[0].weight.data = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    net[2].weight.data = torch.tensor([[1.0, -1.0]])
    x = torch.tensor([[[1.0, 0], [0, 1]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]])
    return to_loihi(net.eval(), x), x


def test_counts_by_hand():
    chip, x = small()
    found = costs(facts(chip), x, [trace.spikes for trace in chip.trace(x)])
    first, readout = found.layers
    # Sample 0: input 0 fires once, two synapses, both neurons fire. Sample 1: input 1 fires twice, one synapse.
    assert (first.synaptic_operations, first.dense_operations) == ((2 + 2) / 2, 4 * 3)
    assert (first.spikes, first.firing_rate, first.silent) == (4 / 2, 4 / (2 * 3 * 2), 0)
    assert (readout.synaptic_operations, readout.dense_operations, readout.spikes) == (4 / 2, 2 * 3, 0)
    assert found.counts == {"synaptic_operations": 4, "updates": 3 * 3, "spikes": 2}
    assert found.macs == 4 + 2
    assert found.input_rate == 3 / 12


def test_graded_input_counts_as_often_as_it_says():
    chip, x = small()
    found = costs(facts(chip), 3 * x, [trace.spikes for trace in chip.trace(x)])
    assert found.layers[0].synaptic_operations == 3 * 4 / 2
    assert found.input_rate == 3 / 12


def test_negative_events_arrive_too():
    chip, x = small()
    found = costs(facts(chip), -x, [trace.spikes for trace in chip.trace(-x)])
    assert found.layers[0].synaptic_operations == layer_reports(chip, -x)[0].synaptic_operations == 4 / 2


def test_layers_that_never_fire_are_silent():
    chip, x = small()
    found = costs(facts(chip), 0 * x, [trace.spikes for trace in chip.trace(0 * x)])
    assert [layer.silent for layer in found.layers] == [2, 0]
    assert found.counts["synaptic_operations"] == 0


def test_costs_equal_the_reports_and_the_floating_point_network(chip, x):
    found = costs(facts(chip), x, [trace.spikes for trace in chip.trace(x)])
    for layer, cost, report in zip(chip.layers, found.layers, layer_reports(chip, x), strict=True):
        assert cost.synaptic_operations == pytest.approx(by_matrix(chip, x, layer))
        assert report.synaptic_operations == cost.synaptic_operations > 0
    # Dense operations do not depend on values, so NeuroBench's count of the trained network is the same.
    assert sum(layer.dense_operations for layer in found.layers) == neurobench(conv_net(), x).dense


class Block(nn.Module):
    """A shortcut beside a convolution, from the same spikes."""

    temporal = True

    def __init__(self, channels):
        super().__init__()
        self.conv, self.lif = nn.Conv2d(channels, channels, 3, padding=1), sk.LIF(0.8, 0.3)

    def forward(self, x):
        return self.lif(sk.fold_time(self.conv)(x) + x)


def branching():
    torch.manual_seed(3)
    return sk.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), sk.LIF(0.8, 0.3), Block(4), nn.Flatten(),
        nn.Linear(64, 6), sk.RecurrentLIF(6, threshold=0.3), nn.Linear(6, 5), sk.CUBALIF(0.5, 0.8, 0.2),
        nn.Linear(5, 3), sk.LI(0.9),
    ).eval()  # fmt: skip


def test_several_inputs_and_feedback(x):
    chip = to_loihi(branching(), x)
    layers = facts(chip)
    sources = [[arriving.source for arriving in layer.inputs] for layer in layers]
    assert sources == [[-1], [0, 0], [1, 2], [2], [3]]
    assert layers[1].inputs[1].shift > 0
    found = costs(layers, x, [trace.spikes for trace in chip.trace(x)])
    for layer, cost in zip(chip.layers, found.layers, strict=True):
        assert cost.synaptic_operations == pytest.approx(by_matrix(chip, x, layer))
        assert cost.synaptic_operations > 0
    summary = summarise(chip, x)
    (cores,) = (placement.cores for placement in summary.placements[0] if placement.layer == layers[1].name)
    # Convolution and shortcut have axons of their own from each of the 64 neurons.
    assert cores[0].in_axons == 2 * 64
    # Two axons to one core are two messages: layers 0 to 3 are heard twice, once, twice and once.
    rates = [cost.spikes for cost in found.layers]
    expected = 2 * rates[0] + rates[1] + (rates[2] * 2) + rates[3]
    assert summary.energies[2].parts["messages"] == pytest.approx(expected * 76.8e-12)
    assert [layer["sources"] for layer in as_json(summary)["layers"]] == sources


def test_neurons_share_a_configuration_where_both_decays_are_equal(x):
    current, membrane = torch.tensor([0.5, 0.5, 0.6, 0.6]), torch.tensor([0.8, 0.8, 0.8, 0.9])
    net = sk.Sequential(nn.Flatten(), nn.Linear(112, 4), sk.CUBALIF(current, membrane, 0.3)).eval()
    (layer,) = facts(to_loihi(net, x))
    assert [int((layer.configs == value).sum()) for value in np.unique(layer.configs)] == [1, 1, 2]


def test_wirings_number_the_whole_network(chip, x):
    layers = facts(chip)
    wired = wirings(layers, x[0, 0].numel())
    assert [layer.first for layer in wired] == [112, 112 + 64, 112 + 64 + 12]
    ends = [(0, 112), (112, 176), (176, 188)]
    for layer, wiring, (low, high) in zip(layers, wired, ends, strict=True):
        assert low <= wiring.pre.min() <= wiring.pre.max() < high
        assert wiring.post.max() < layer.neurons
        assert len(wiring.post) == layer.synapses


def test_a_summary_holds_all_of_it(chip, x):
    summary = summarise(chip, x, title="a", data="b", accuracies={"integer": 0.5})
    assert [p.layer for p in summary.placements[0]] == ["2", "6", "8"]
    assert [energy.model for energy in summary.energies] == list(CHIPS)
    assert not any(energy.uncounted for energy in summary.energies)
    # Every layer is one core, so every spike of a hidden layer is one message.
    counted = summary.energies[2].parts
    assert counted["messages"] / 76.8 == pytest.approx(counted["spikes"] / 69.3)
    assert summary.conventional[0].joules == pytest.approx(summary.costs.macs * 4.6e-12)
    for trace, raster, rates in zip(chip.trace(x), summary.raster, summary.rates, strict=True):
        assert np.array_equal(raster, trace.spikes[:, 0].numpy())
        assert rates == pytest.approx(trace.spikes.double().mean((0, 1)).numpy())


def test_messages_are_not_guessed_where_a_layer_does_not_fit():
    net = sk.Sequential(nn.Linear(5000, 3), sk.LIF(0.9), nn.Linear(3, 2), sk.LI(0.9)).eval()
    x = (torch.rand(2, 1, 5000) < 0.1).float()
    summary = summarise(to_loihi(net, x), x)
    assert [placement.fits for placement in summary.placements[0]] == [False, True]
    assert summary.energies[2].uncounted == ("messages",)
    assert as_json(summary)["cores"]["Loihi 1"]["total"] is None


def test_json_is_plain_and_says_the_same(chip, x):
    summary = summarise(chip, x)
    found = json.loads(json.dumps(as_json(summary), allow_nan=False))
    assert [layer["neurons"] for layer in found["layers"]] == [64, 12, 3]
    assert found["totals"]["neurons"] == 79
    assert found["cores"]["Loihi 1"]["total"] == 3
    assert found["cores"]["Loihi 2"]["table"]["in_axons"]["assumed"] is True
    assert found["quantisation"]["worst"] == summary.loss.worst.name
    assert found["energy"][0]["model"]["source"].startswith("Davies")
    assert found["proofs"] == []


def test_targets_and_tables_are_the_users(chip, x):
    mine = LOIHI2.edited({"neurons": 10}, "mine")
    model = EnergyModel("mine", {"updates": 1.0}, "measured", "")
    summary = summarise(chip, x, targets=(mine,), models=(model,))
    assert [len(placement.cores) for placement in summary.placements[0]] == [7, 2, 1]
    assert summary.energies[0].joules == pytest.approx(79 * 9 * 1e-12)
    with pytest.raises(InputError, match="two targets have one name"):
        summarise(chip, x, targets=(LOIHI1, LOIHI1))
