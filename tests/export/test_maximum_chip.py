"""Max pooling of currents in an exported network: its files, what Lava is given, what is counted and told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import LoihiNet, quantisation_loss, to_loihi
from spikekit.export.cost.costs import costs
from spikekit.export.cost.facts import facts
from spikekit.export.plan import plan
from spikekit.export.scales import exponent_of
from spikekit.export.verify import fixed_layer
from tests.export.nets import frames
from tests.export.pooled import Stream, pooled_net


@pytest.fixture(scope="module")
def chip():
    return to_loihi(Stream().eval(), frames())


def test_each_sum_must_fit_lava_and_not_all_of_them():
    layer = plan(sk.Sequential(nn.MaxPool2d(2), sk.LIF()).eval(), frames()).layers[0]
    rows = np.full(layer.rows, 254.0)

    def found(inputs):
        return exponent_of(
            replace(layer, inputs=inputs), rows * 2**20, rows, [0] * len(inputs), [2**17] * len(inputs), netx=False
        )

    # 2^31 is 64 times as much as 2^17 messages of 254 units.
    assert found(layer.inputs) == found(layer.inputs[:1]) == 5


def test_files_keep_everything(chip, tmp_path):
    found, x = LoihiNet.load(chip.save(tmp_path / "net.npz")), frames()
    assert all(torch.equal(a.spikes, b.spikes) for a, b in zip(found.trace(x), chip.trace(x), strict=True))


@pytest.mark.parametrize(("layer", "value"), [(2, -1), (2, 1.0), (0, 1)])
def test_dendrites_that_are_none_are_refused(chip, tmp_path, layer, value):
    path = chip.save(tmp_path / "net.npz")
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    meta["layers"][layer]["inputs"][0]["dendrite"] = value
    np.savez(path, meta=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(ExportError, match=r"damaged one \(a dendrite"):
        LoihiNet.load(path)


def test_lava_gets_one_matrix_a_source(chip):
    """Each is a process of its own there."""
    layer = fixed_layer(chip.layers[2])
    assert layer.dendrites == 6
    assert len(chip.layers[2].inputs) == 6 * 4
    # The numbers go both into the sum and beside it.
    assert [each.source for each in layer.inputs] == [0, 1, -1, 1]
    assert all(each.rows.max() < 6 * layer.n for each in layer.inputs)


def test_inputs_of_another_shift_are_another_matrix(chip):
    first, *others = chip.layers[2].inputs
    layer = replace(chip.layers[2], inputs=(replace(first, shift=first.shift + 1), *others))
    assert len(fixed_layer(layer).inputs) == 5


def test_counts_are_those_of_the_convolution_before_it_was_pooled():
    """Every pixel in front of the pooling is a sum that is made once; its rims and other channels are no synapses."""
    net, x = pooled_net(nn.MaxPool2d(2)), frames()
    plain = sk.Sequential(*net[:2], sk.LIF()).eval()
    layer, alone = (facts(to_loihi(each, x))[0] for each in (net, plain))
    # Of 8 × 7 pixels 8 × 6 are in a window.
    assert layer.neurons * 4 == alone.neurons * 6 / 7
    dense = sum(each.dense for each in layer.inputs)
    assert 0.8 < dense / sum(each.dense for each in alone.inputs) < 1
    assert dense >= layer.synapses
    traces = to_loihi(net, x).trace(x)
    rows = costs(facts(to_loihi(net, x)), x, [trace.spikes for trace in traces]).layers
    # Spikes come in, numbers go out.
    assert rows[0].products == 0
    assert rows[1].products == rows[1].synaptic_operations > 0


def test_a_part_of_a_concatenation_stays_a_convolution(chip):
    """The channels that the others have are no synapses of it."""
    parts = [each for each in facts(chip)[2].inputs if each.source == 0]
    assert [each.kind for each in parts] == ["conv"] * 6
    for each in parts:
        # 4 of 10 channels; a weight or two may round to 0.
        assert len(each.post) <= each.dense < 1.2 * len(each.post)


def test_what_it_loses_is_told(chip):
    x = frames()
    layers = (*chip.layers[:2], replace(chip.layers[2], message_bits=3), chip.layers[3])
    few = LoihiNet(layers, chip.plan, chip.in_shape)
    assert quantisation_loss(chip, x).layers[2].saturated == 0
    assert quantisation_loss(few, x).layers[2].saturated > 0
    assert quantisation_loss(chip, x).layers[2].threshold_error == 0


def test_the_page_says_what_is_sent(chip, tmp_path):
    page = chip.report(tmp_path / "page.html", frames()).read_text()
    assert "maximum" in page
    assert "sigma-delta" not in page
    assert ">first.1, second, input<" in page
    assert "Loihi 1 sends spikes, and this network sends numbers" in page
