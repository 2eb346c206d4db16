"""Normalised membranes on the chip: as thresholds a channel or neuron, with weights of both signs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import LoihiNet, to_loihi
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from tests.export.nets import frames
from tests.folding.nets import settle

RESETS = ("soft", "hard", "none")
SHAPES = (6, (6, 4, 4))


def normalised(reset="soft", shape=6, seed=2, **settings):
    """Conv and dense LIF whose norms have weights of both signs and which are silent at rest, on frames (2, 8, 7)."""
    torch.manual_seed(seed)
    net = sk.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        sk.LIF(0.6, 0.5, reset, reset_quantum=0.7, norm=sk.MPBN(shape), **settings),
        nn.Flatten(),
        nn.Linear(96, 20),
        nn.BatchNorm1d(20),
        sk.LIF(0.8, 0.4, reset, norm=sk.MPBN(20), **settings),
        nn.Linear(20, 3),
        sk.LI(0.95),
    )
    settle(net)
    with torch.no_grad():
        for lif in (net[2], net[6]):
            lif.norm.bias.uniform_(-0.3, 0.2)
            lif.norm.running_mean.copy_(lif.norm.weight.sign() * torch.rand(lif.norm.shape) * 0.2)
    return net


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", SHAPES, ids=["channel", "element"])
@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("folded", [False, True])
def test_the_plan_fires_the_spikes_of_the_network(reset, shape, inclusive, folded):
    net, x = normalised(reset, shape, inclusive=inclusive).double(), frames().double()
    layers = plan(sk.fold(net) if folded else net, x).layers
    traces = run_plan(layers, x)
    with torch.no_grad():
        y, seen = sk.record(net, x)
    assert seen["2.spikes"].mean() > 0.05
    assert torch.equal(traces[0].spikes, seen["2.spikes"].flatten(2))
    assert torch.equal(traces[1].spikes, seen["6.spikes"])
    torch.testing.assert_close(traces[2].membranes, y, rtol=1e-9, atol=1e-9)
    assert all((layer.threshold > 0).all() for layer in layers)
    assert bool((layers[0].quantum < 0).any()) == (reset == "soft")
    assert layers[0].inputs[0].synapses.kind == ("conv" if shape == 6 else "sparse")


@pytest.mark.parametrize("backend", ["lava-fixed", "lava-float"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", SHAPES, ids=["channel", "element"])
def test_lava_fires_the_same_spikes(backend, reset, shape, worker):
    chip = to_loihi(normalised(reset, shape), frames())
    traces = chip.trace(frames(batch=3, seed=7))
    if reset == "soft":
        # Neurons of either direction fire.
        for trace, layer in zip(traces[:2], chip.layers, strict=False):
            assert all(
                trace.spikes[..., torch.from_numpy(side)].any() for side in (layer.quantum < 0, layer.quantum > 0)
            )
    proof = chip.verify(frames(batch=3, seed=7), backend, python=worker)
    assert proof.identical, str(proof)
    assert proof.mismatches == {"2": 0, "6": 0, "8": 0}


def test_the_fold_and_the_network_are_one_chip():
    """But for the last bit: a fold in float32 has rounded its thresholds."""
    net = normalised()
    ours, folded = (to_loihi(each, frames()) for each in (net, sk.fold(net)))
    for a, b in zip(ours.layers, folded.layers, strict=True):
        assert a.inputs[0].synapses.kind == b.inputs[0].synapses.kind
        assert np.abs(a.inputs[0].synapses.weight - b.inputs[0].synapses.weight).max() <= 2
        assert np.array_equal(np.sign(a.quantum), np.sign(b.quantum))


def test_other_options_of_fold_export_too():
    net = normalised().double()
    x = frames().double()
    for folded in (sk.fold(net, negative="negate"), sk.fold(net, negative="negate", threshold="common")):
        traces = run_plan(plan(folded, x).layers, x)
        with torch.no_grad():
            _, seen = sk.record(net, x)
        assert torch.equal(traces[0].spikes, seen["2.spikes"].flatten(2))
        assert torch.equal(traces[1].spikes, seen["6.spikes"])


def test_a_quantum_below_zero_stays_within_24_bits(worker):
    """Every spike adds so much that the membrane meets its limit, here and on Lava."""
    chip = to_loihi(normalised(), frames())
    layers = [
        replace(layer, quantum=np.where(layer.quantum < 0, -(2**23) + 1, layer.quantum)) if layer.fires else layer
        for layer in chip.layers
    ]
    extreme = LoihiNet(tuple(layers), chip.plan, chip.in_shape)
    traces = extreme.trace(frames())
    assert int(traces[0].last.max()) == 2**23 - 1
    assert extreme.verify(frames(batch=3), "lava-fixed", python=worker).identical


def test_files_keep_signs_and_quanta(tmp_path):
    chip = to_loihi(normalised(), frames())
    again = LoihiNet.load(chip.save(tmp_path / "net.npz"))
    assert torch.equal(again.simulate(frames()), chip.simulate(frames()))
    assert (again.layers[0].quantum < 0).any()


@pytest.mark.parametrize("reset", RESETS)
def test_neurons_that_fire_from_rest(reset, worker):
    """A bias of the norm above the threshold: the folded threshold is below 0."""
    net = normalised(reset)
    net[2].norm.weight.data[4] = 1.0
    net[2].norm.bias.data[4] = 3.0
    chip = to_loihi(net, frames())
    assert (chip.layers[0].threshold.reshape(6, -1)[4] < 0).all()
    assert (chip.layers[0].threshold > 0).any()
    assert chip.trace(torch.zeros(3, 1, 2, 8, 7))[0].spikes[0, 0].reshape(6, -1)[4].all()
    for backend in ("lava-fixed", "lava-float"):
        proof = chip.verify(frames(batch=3, seed=7), backend, python=worker)
        assert proof.identical, str(proof)
    with pytest.raises(ExportError, match=r"layer 2: neuron 64 fires from rest, at -.*one of 16.*thresholds='neuron'"):
        to_loihi(net, frames(), thresholds="group")


def test_what_cannot_be_folded_is_refused():
    net = normalised()
    net[6].norm.weight.data[3] = 0.0
    with pytest.raises(ExportError, match=r"layer 6: the weight of MPBN\(20\) is 0 for channel 3"):
        to_loihi(net, frames())
    net = normalised()
    net[2].norm.train()
    with pytest.raises(ExportError, match=r"layer 2: MPBN\(6\) is in train mode"):
        to_loihi(net, frames())


class OwnNorm(sk.MPBN):
    def lif(self, *args, **settings):
        return super().lif(*args, **settings)


def test_a_norm_with_an_arithmetic_of_its_own_is_refused():
    net = sk.Sequential(nn.Flatten(), nn.Linear(112, 3), sk.LIF(norm=OwnNorm(3)))
    with pytest.raises(ExportError, match=r"layer 2: .*\(OwnNorm\) defines lif itself"):
        to_loihi(net.eval(), frames())
