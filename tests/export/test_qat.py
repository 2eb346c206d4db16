from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import spikekit as sk
from spikekit.errors import CheckpointError, ExportError, InputError, StateError
from spikekit.export import qat, to_loihi
from tests.export.nets import conv_net, frames

COUNTS = torch.randint(0, 4, (9, 6, 2, 8, 7), generator=torch.Generator().manual_seed(2)).float()


def learn(learner, x, steps=2, lr=0.02):
    """A few steps towards random targets, large enough to move most weights by whole units."""
    optimiser = torch.optim.Adam(learner.parameters(), lr)
    target = torch.randn(learner(x).shape[2:])
    for _ in range(steps):
        optimiser.zero_grad()
        (learner(x).mean((0, 1)) - target).square().sum().backward()
        optimiser.step()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    reset=st.sampled_from(["soft", "hard", "none"]),
    inclusive=st.booleans(),
    bits=st.integers(4, 8),
    thresholds=st.sampled_from(["neuron", "group", "layer"]),
    headroom=st.sampled_from([1.0, 2.0, 16.0]),
    readout=st.booleans(),
    counts=st.booleans(),
)
def test_what_was_trained_is_what_is_exported(seed, reset, inclusive, bits, thresholds, headroom, readout, counts):
    net = conv_net(seed, reset, inclusive=inclusive)
    net = net if readout else net[:7]
    calibration, other = frames(), COUNTS if counts else frames(seed=seed + 7, density=0.7)
    learner = qat(net, calibration, weight_bits=bits, thresholds=thresholds, headroom=headroom)
    before = to_loihi(learner, calibration)
    learn(learner, calibration)
    chip = to_loihi(learner, calibration)
    assert any(
        (a.inputs[0].synapses.weight != b.inputs[0].synapses.weight).any()
        for a, b in zip(before.layers, chip.layers, strict=True)
    )
    output, recorded = sk.record(learner, other)
    assert torch.equal(output, chip.simulate(other))
    traces = chip.trace(other)
    for i, (layer, trace) in enumerate(zip(chip.layers, traces, strict=True)):
        assert layer.weight_bits == bits
        if layer.fires:
            assert torch.equal(recorded[f"layers.{i}.spikes"].flatten(2).bool(), trace.spikes)
    if thresholds == "layer":
        assert all(len(np.unique(layer.threshold)) == 1 for layer in chip.layers if layer.fires)


def test_states_that_wrap_and_saturate_are_trained_as_they_are_exported():
    calibration = frames(density=0.02)
    learner = qat(conv_net(), calibration, weight_bits=8, headroom=1.0)
    with torch.no_grad():
        learner.layers[0].bias += 400
    loud = 30 * torch.ones(12, 2, 2, 8, 7)
    chip = to_loihi(learner, calibration)
    membranes = chip.trace(loud)[0].membranes
    assert (membranes.abs() == 2**23 - 1).any()
    assert torch.equal(learner(loud), chip.simulate(loud))


@pytest.mark.parametrize("bits", [4, 8])
def test_before_training_it_is_the_export_of_the_same_settings(bits):
    net, x = conv_net(), frames()
    settings = {"weight_bits": bits, "thresholds": "group", "headroom": 3.0}
    chip, same = to_loihi(net, x, **settings), to_loihi(qat(net, x, **settings), x)
    for a, b in zip(chip.layers, same.layers, strict=True):
        # Weights go through float32 once.
        assert (a.inputs[0].synapses.weight != b.inputs[0].synapses.weight).mean() < 0.01
        assert np.array_equal(a.scale, b.scale)
        assert np.array_equal(a.threshold, b.threshold)


def test_before_training_it_is_near_the_float_network():
    net, x = conv_net(), frames()
    learner = qat(net, x, weight_bits=8)
    with torch.no_grad():
        exact, found = net(x), learner(x)
    assert found.dtype == torch.float32
    assert (found - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_the_plan_of_the_export_holds_the_trained_weights():
    x = frames()
    learner = qat(conv_net(), x)
    learn(learner, x)
    chip = to_loihi(learner, x)
    for layer, plan in zip(learner.layers, chip.plan, strict=True):
        assert np.array_equal(plan.inputs[0].synapses.weight.astype(np.float32), layer.weights[0].detach().numpy())
    assert [plan.name for plan in chip.plan] == ["2", "6", "8"]


def test_the_network_that_was_given_is_left_alone():
    net, x = conv_net(), frames()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    learn(qat(net, x), x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_folded_network_of_normalised_neurons_learns_too():
    torch.manual_seed(0)
    norm = sk.MPBN(6)
    net = sk.Sequential(nn.Linear(10, 6), sk.LIF(0.5, 0.5, norm=norm), nn.Linear(6, 3), sk.LI(0.9)).eval()
    nn.init.uniform_(norm.running_var, 0.2, 0.5)
    x = (torch.rand(6, 4, 10) < 0.5).float()
    for given_net in (net, sk.fold(net)):
        learner = qat(given_net, x)
        learn(learner, x)
        assert torch.equal(learner(x), to_loihi(learner, x).simulate(x))


def test_the_trainer_trains_it_and_goes_on_where_it_stopped(tmp_path):
    x, y = frames(batch=24).transpose(0, 1), torch.arange(24) % 3
    loader = DataLoader(TensorDataset(x, y), 8, collate_fn=collate)
    learner = qat(conv_net(), frames())
    history = sk.Trainer(learner, run_dir=tmp_path, lr=1e-2, progress=False, tensorboard=False).fit(loader, epochs=2)
    assert [row.name for row in history[-1].train.layers] == ["layers.0", "layers.1"]
    assert history[-1].train.layers[0].rate > 0
    again = qat(conv_net(seed=3), frames())
    sk.Trainer(again, run_dir=tmp_path, lr=1e-2, progress=False, tensorboard=False).fit(loader, epochs=2)
    # Scales and thresholds came with the weights: it is the same network, whatever it was made of.
    z = frames(seed=9)
    assert torch.equal(again(z), learner(z))
    assert torch.equal(to_loihi(again, z).simulate(z), learner(z))


def collate(samples):
    return torch.stack([x for x, _ in samples], 1), torch.stack([y for _, y in samples])


def test_half_precision_of_autocast_does_not_reach_the_sums():
    x = frames(density=0.8)
    learner = qat(conv_net(), x, weight_bits=8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = learner(x)
    assert torch.equal(found, learner(x))


def test_it_learns_in_four_bits():
    x, y = frames(batch=12), torch.arange(12) % 3
    learner = qat(conv_net(), x, weight_bits=4)
    optimiser = torch.optim.Adam(learner.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(learner(x).mean(0), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_what_it_refuses():
    x = frames()
    with pytest.raises(InputError, match="qat: calibration must be"):
        qat(conv_net(), torch.ones(3))
    with pytest.raises(InputError, match="fractions"):
        qat(conv_net(), x * 0.5)
    with pytest.raises(ExportError, match="train mode"):
        qat(conv_net().train(), x)
    learner = qat(conv_net(), x)
    with pytest.raises(InputError, match="qat\\(\\) settled"):
        to_loihi(learner, x, weight_bits=8)
    with pytest.raises(InputError, match="QATNetwork: the input holds fractions"):
        learner(x * 0.5)
    with pytest.raises(InputError, match=r"must be \[T, B, 2, 8, 7\]"):
        to_loihi(learner, torch.ones(2, 1, 2, 8, 8))
    _, state = sk.run(learner, x)
    with pytest.raises(StateError, match="starts at rest"):
        sk.run(learner, x, state)
    with torch.no_grad():
        learner.layers[1].weights[0][0, 0] = torch.nan
    with pytest.raises(InputError, match="QATLayer 6: its weight holds NaN"):
        learner(x)


def test_settings_of_the_layers_are_those_of_the_neurons():
    net = sk.Sequential(
        nn.Linear(4, 3), sk.LIF(0.9, surrogate=sk.surrogate.Triangle(), detach_reset=True), nn.Linear(3, 2), sk.LIF(0.9)
    ).eval()
    x = torch.ones(3, 1, 4)
    first, second = qat(net, x).layers
    assert (first._surrogate, first._detach_reset) == (sk.surrogate.Triangle(), True)
    assert (second._surrogate, second._detach_reset) == (sk.surrogate.ATan(), False)
    chosen = qat(net, x, surrogate=sk.surrogate.Sigmoid()).layers
    assert all(layer._surrogate == sk.surrogate.Sigmoid() for layer in chosen)
    assert replace(first._chip).weight_bits == 4


def test_a_checkpoint_of_other_bits_or_thresholds_is_refused(tmp_path):
    """Buffers of the one with the weights of the other would be a third network."""
    x = frames()
    sk.train.save(qat(conv_net(), x, weight_bits=4), tmp_path / "net.safetensors")
    sk.train.load_weights(qat(conv_net(), x, weight_bits=4), tmp_path / "net.safetensors")
    for other in (qat(conv_net(), x, weight_bits=8), qat(conv_net(), x, weight_bits=4, thresholds="layer")):
        with pytest.raises(CheckpointError, match=r"layers\.0.*weight_bits=4"):
            sk.train.load_weights(other, tmp_path / "net.safetensors")


@pytest.mark.parametrize("headroom", [0, 0.5, -1, float("nan"), float("inf"), "2", True])
def test_headroom_is_a_number_of_at_least_one(headroom):
    with pytest.raises(InputError, match="qat: headroom must be a number of at least 1, got"):
        qat(conv_net(), frames(), headroom=headroom)
