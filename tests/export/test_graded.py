"""Networks with sigma-delta neurons: how they are read, run, stored, compared, counted and reported."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import LoihiNet, layer_reports, qat, quantisation_loss, to_loihi
from spikekit.export.cost.costs import costs
from spikekit.export.cost.facts import facts
from spikekit.export.faithful import check_output
from spikekit.export.float_run import run_plan
from spikekit.export.lava import LavaResult
from spikekit.export.page.summary import as_json, summarise
from spikekit.export.plan import plan
from spikekit.export.tables import layer_table, loss_table
from spikekit.export.verify import compare
from tests.export.nets import conv_net, frames


def graded_net(seed=0):
    """Numbers into sigma-delta neurons, spiking ones and a readout; spikes into sigma-delta neurons."""
    torch.manual_seed(seed)
    return sk.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, bias=False),
        sk.SigmaDelta(torch.tensor([0.1, 0.2, 0.3]), bias=0.1),
        nn.AvgPool2d(2, stride=1),
        nn.Conv2d(3, 4, 1),
        sk.LIF(0.9, 0.3),
        nn.Flatten(),
        nn.Linear(16, 6, bias=False),
        sk.SigmaDelta(0.1, activation="none"),
        nn.Linear(6, 3),
        sk.LI(0.9),
    ).eval()


def changes(batch=3, steps=9, seed=1):
    x = frames(batch, steps, seed=seed) * 4
    return torch.diff(x, dim=0, prepend=torch.zeros_like(x[:1]))


@pytest.fixture(scope="module")
def chip():
    return to_loihi(graded_net(), changes())


def test_the_plan_repeats_the_network():
    net, x = graded_net(), changes()
    layers = plan(net, x).layers
    assert [layer.activation for layer in layers] == ["relu", None, "none", None]
    output = run_plan(layers, x)[-1].membranes
    torch.testing.assert_close(output, net.double()(x.double()).flatten(2))


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.Linear(6, 4), sk.SigmaDelta(0.1)], r"layer 1 \(SigmaDelta\): what drives it holds a constant.*bias=False"),
        ([nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), sk.SigmaDelta(0.1)], "holds a constant.* no norm"),
    ],
)
def test_constants_in_front_are_refused(layers, reason):
    net = sk.Sequential(*layers)
    if isinstance(layers[1], nn.BatchNorm1d):
        nn.init.ones_(layers[1].bias)
    with pytest.raises(ExportError, match=reason):
        plan(net.eval(), torch.ones(3, 2, 6))


def test_a_norm_that_only_scales_is_folded():
    net = sk.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), sk.SigmaDelta(0.1)).eval()
    nn.init.uniform_(net[1].running_var, 0.2, 2.0)
    assert to_loihi(net, torch.ones(3, 2, 6)).layers[0].graded


def test_what_is_no_sum_of_messages_is_refused():
    pooled = sk.Sequential(nn.Conv2d(2, 3, 3, bias=False), sk.SigmaDelta(0.1), nn.MaxPool2d(2), sk.LIF()).eval()
    with pytest.raises(ExportError, match=r"layer 2 \(MaxPool2d\): the messages of sigma-delta neurons are changes"):
        plan(pooled, changes())
    with pytest.raises(ExportError, match=r"layer 1 .*sends numbers.* which qat does not train"):
        qat(graded_net(), changes())
    with pytest.raises(ExportError, match="layer 1: netx knows LIF neurons, and none that send numbers"):
        to_loihi(graded_net(), changes()).to_netx("net.net")
    with pytest.raises(ExportError, match="layer 1: NIR has no sigma-delta neuron"):
        sk.interop.to_nir(graded_net(), changes())


def test_an_output_that_differs_is_told():
    net, x = graded_net(), changes()
    layers = plan(net, x).layers
    wrong = (replace(layers[0], threshold=layers[0].threshold * 2), *layers[1:])
    with pytest.raises(ExportError, match="the output differs by up to"):
        check_output(net, wrong, run_plan(wrong, x), x)


def test_changes_that_meet_the_threshold_exactly_do_not_refuse_a_network():
    """0.1 + 0.2 is not 0.3: which side of the threshold it falls on is the order of a sum."""
    net = sk.Sequential(nn.Linear(3, 2, bias=False), sk.SigmaDelta(0.3, activation="none")).eval()
    nn.init.constant_(net[0].weight, 0.1)
    x = torch.tensor([[1.0, 1, 1], [1, 2, 0], [-2, -1, 0]]).unsqueeze(1)
    assert to_loihi(net, x).layers[0].graded


def test_messages_are_whole_and_the_same_in_every_way_to_run(chip):
    x = changes()
    traces = chip.trace(x)
    assert [trace.spikes.dtype for trace in traces] == [torch.int32, torch.bool, torch.int32, torch.bool]
    assert torch.equal(
        chip.simulate(x).flatten(2), (traces[-1].membranes / torch.from_numpy(chip.layers[-1].unit)).float()
    )
    first = LoihiNet(chip.layers[:1], chip.plan[:1], chip.in_shape)
    assert torch.equal(first.simulate(x).flatten(2), traces[0].spikes.float() / 2 ** chip.layers[0].grain)


def test_the_last_layer_may_send_messages():
    net = sk.Sequential(*graded_net()[:2])
    x = changes()
    found, wanted = to_loihi(net, x).simulate(x), net(x)
    assert found.shape == wanted.shape
    # Summed up, nearer than the thresholds of both.
    assert (found.cumsum(0) - wanted.cumsum(0)).abs().max() < 0.7


def test_files_keep_everything(chip, tmp_path):
    found, x = LoihiNet.load(chip.save(tmp_path / "net.npz")), changes()
    assert all(torch.equal(a.spikes, b.spikes) for a, b in zip(found.trace(x), chip.trace(x), strict=True))
    assert [layer.grain for layer in found.layers] == [layer.grain for layer in chip.layers]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("activation",), "tanh"),
        (("activation",), None),
        (("message_bits",), 99),
        (("message_bits",), None),
        (("message_bits",), "6"),
        (("exponent",), 5),
        (("inputs", 0, "grain"), 3),
    ],
)
def test_files_that_do_not_fit_together_are_refused(chip, tmp_path, place, value):
    path = chip.save(tmp_path / "net.npz")
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    at = meta["layers"][0]
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(ExportError, match="not a LoihiNet file, or a damaged one"):
        LoihiNet.load(path)


def test_a_message_shift_that_differs_is_refused(chip, tmp_path):
    shift = chip.layers[0].message_shift.copy()
    shift[0] += 1
    other = LoihiNet((replace(chip.layers[0], message_shift=shift), *chip.layers[1:]), chip.plan, chip.in_shape)
    with pytest.raises(ExportError, match="damaged"):
        LoihiNet.load(other.save(tmp_path / "net.npz"))


def test_files_from_before_there_were_messages_are_read(tmp_path):
    chip = to_loihi(conv_net(), frames())
    path = chip.save(tmp_path / "net.npz")
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    for layer in (*meta["layers"], *meta["plan"]):
        for field in ("activation", "message_shift", "message_bits"):
            layer.pop(field, None)
        for each in layer["inputs"]:
            each.pop("grain")
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)
    assert torch.equal(LoihiNet.load(path).simulate(frames()), chip.simulate(frames()))


def result_of(traces):
    return LavaResult(
        tuple(trace.spikes.transpose(0, 1).numpy().copy() for trace in traces),
        tuple(trace.last.numpy().copy() for trace in traces),
        "0.10.0",
        "3.11",
        0.1,
    )


NAMES = ["1", "4", "7", "9"]


def test_one_message_that_differs_by_one_is_found_and_named(chip):
    traces = chip.trace(changes())
    result = result_of(traces)
    assert compare(NAMES, traces, result, "lava-fixed").identical
    step, neuron = map(int, traces[2].spikes[:, 1].nonzero()[0])
    result.spikes[2][1, step, neuron] += 1
    proof = compare(NAMES, traces, result, "lava-fixed")
    assert proof.mismatches == {"1": 0, "4": 0, "7": 1, "9": 0}
    assert (proof.first.sample, proof.first.step, proof.first.neuron) == (1, step, neuron)
    assert proof.first.found == proof.first.expected + 1
    assert "layer 7: 1 of" in str(proof)
    assert "messages and 0 of" in str(proof)
    assert [layer.graded for layer in proof.layers] == [True, False, True, False]


def test_float_messages_may_round_but_not_drift(chip):
    traces = [
        replace(trace, spikes=trace.spikes if layer.graded else trace.spikes.bool())
        for layer, trace in zip(chip.plan, chip.trace_float(changes()), strict=True)
    ]
    result = result_of(traces)
    result.spikes[0][:] *= 1 + 1e-13
    assert compare(NAMES, traces, result, "lava-float").identical
    result.spikes[0][:] *= 1 + 1e-6
    assert not compare(NAMES, traces, result, "lava-float").identical
    result.spikes[0][:] = np.nan
    assert compare(NAMES, traces, result, "lava-float").mismatches["1"] == result.spikes[0].size


def test_operations_are_counted_by_message(chip):
    """Each number is one event, whatever its size and sign, and a product at each synapse."""
    x = changes()
    traces = chip.trace(x)
    sent = [x.flatten(2), *(trace.spikes for trace in traces)]
    by_hand = []
    for number, layer in enumerate(chip.layers):
        (only,) = layer.inputs
        # Ones in place of the spikes and of the weights: what each neuron reaches.
        reached = torch.eye(only.synapses.n_in, dtype=torch.float64)
        weight = torch.from_numpy(np.ones_like(only.synapses.weight, dtype=np.float64))
        fan_out = only.synapses.sums(reached, weight).flatten(1).sum(1)
        by_hand.append(float(((sent[number] != 0).long() * fan_out).sum()) / x.shape[1])
    found = costs(facts(chip), x, [trace.spikes for trace in traces])
    assert [layer.synaptic_operations for layer in found.layers] == pytest.approx(by_hand)
    assert [row.synaptic_operations for row in layer_reports(chip, x)] == pytest.approx(by_hand)
    # The third layer hears spikes.
    assert [layer.products for layer in found.layers] == pytest.approx([*by_hand[:2], 0, by_hand[3]])
    assert found.arithmetic == pytest.approx({"macs": sum(by_hand) - by_hand[2], "accumulates": by_hand[2]})
    assert found.layers[0].firing_rate == pytest.approx(float((traces[0].spikes != 0).double().mean()))


def test_reports_are_in_the_units_of_the_network(chip):
    x = changes()
    exact, whole = chip.trace_float(x)[0], chip.trace(x)[0]
    error = (whole.spikes.double().sum(0) / 2 ** chip.layers[0].grain - exact.spikes.sum(0)).abs().mean()
    loss = quantisation_loss(chip, x)
    row = layer_reports(chip, x)[0]
    assert row.spike_count_error == loss.layers[0].spike_count_error == pytest.approx(float(error))
    assert row.float_rate == pytest.approx(float((exact.spikes != 0).double().mean()))
    assert 0 < loss.output_error < 0.2
    assert loss.layers[0].threshold_error < 1e-3
    assert "relative" not in layer_table(layer_reports(chip, x)) + loss_table(loss)


def test_losses_tell_messages_that_were_the_largest(chip):
    few = replace(chip.layers[0], message_bits=2)
    other = LoihiNet((few, *chip.layers[1:]), chip.plan, chip.in_shape)
    assert quantisation_loss(other, changes()).layers[0].saturated > 0
    assert quantisation_loss(chip, changes()).layers[0].saturated == 0


def test_the_page_says_what_is_sent(chip, tmp_path):
    page = chip.report(tmp_path / "page.html", changes()).read_text()
    assert "sigma-delta" in page
    assert "products, 4.6 pJ each; " in page
    assert "Loihi 1 sends spikes, and this network sends numbers" in page
    found = as_json(summarise(chip, changes()))
    assert [layer["graded"] for layer in found["layers"]] == [True, False, True, False]
    json.dumps(found)
