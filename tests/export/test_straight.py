"""The straight-through gradient beside that of the float neuron, where the integers round nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.straight import fire_straight, straight
from spikekit.export.synapses import INPUT, Projection, Synapses
from spikekit.ops.lif.reference import LIFRule, lif_reference
from spikekit.surrogate import ATan, Sigmoid, Triangle


def layer(reset, inclusive, fires, exponent=1):
    """Five neurons whose membranes are even enough that a loss of half, of a quarter or of nothing rounds nothing."""
    n = 5
    return IntegerLayer(
        name="exact",
        inputs=(Projection(INPUT, Synapses("dense", np.zeros((n, 1), np.int32), (1,), (n,))),),
        exponent=exponent,
        scale=np.array([50.0, 100.0, 75.0, 160.0, 64.0]),
        bias_mantissa=np.array([1024, -2048, 0, 512, 1024]),
        bias_exponent=np.zeros(n, np.int64),
        current_decay=None,
        decay=np.array([2048, 1024, 0, 2048, 0]),
        threshold=np.array([64, 128, 96, 160, 64]),
        quantum=np.array([4096, 8192, 2048, 10240, -1024]),
        reset=reset,
        inclusive=inclusive,
        fires=fires,
    )


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("surrogate", [ATan(), Triangle(2.0), Sigmoid()])
def test_gradients_are_those_of_the_float_neuron(reset, inclusive, detach, surrogate):
    chip = layer(reset, inclusive, True)
    generator = torch.Generator().manual_seed(0)
    # Multiples of 32 units times 2^7 survive six halvings.
    sums = (torch.randint(-2, 5, (6, 4, 5), generator=generator) * 32).float()
    upstream = torch.randn(sums.shape, generator=generator, dtype=torch.float64)
    bias = torch.from_numpy(chip.bias).float()
    a, b = sums.clone().requires_grad_(), bias.clone().requires_grad_()
    spikes, _ = fire_straight(chip, a, b, surrogate, detach)
    (spikes * upstream).sum().backward()

    unit = torch.from_numpy(chip.unit)
    drive, offset = sums.double().requires_grad_(), bias.double().requires_grad_()
    real = (drive * 2.0 ** (chip.exponent + 6) + offset) / unit
    beta = torch.from_numpy(1 - chip.decay / 4096)
    threshold, quantum = torch.from_numpy(chip.threshold * 64) / unit, torch.from_numpy(chip.quantum) / unit
    # A hair above and below, so that dividing by the unit decides no tie.
    threshold = threshold * (1 - 1e-12 if inclusive else 1 + 1e-12)
    expected, _, _ = lif_reference(real, None, beta, threshold, quantum, LIFRule(reset, inclusive, detach, surrogate))
    (expected * upstream).sum().backward()
    assert torch.equal(spikes.double(), expected)
    assert 0.05 < spikes.mean() < 0.95
    for found, wanted in ((a.grad, drive.grad), (b.grad, offset.grad)):
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_a_readout_passes_its_membrane_through():
    chip = layer("none", False, False)
    sums = (32.0 * torch.ones(3, 2, 5)).requires_grad_()
    bias = torch.from_numpy(chip.bias).float().requires_grad_()
    out, membranes = fire_straight(chip, sums, bias, ATan(), False)
    assert torch.equal(out, (membranes / torch.from_numpy(chip.unit)).float())
    out.sum().backward()
    keep = 1 - chip.decay / 4096
    per_step = np.stack([1 + keep + keep**2, 1 + keep, np.ones(5)]) / chip.unit
    np.testing.assert_allclose(sums.grad[:, 0].numpy(), per_step * 2.0**7, rtol=1e-5)
    np.testing.assert_allclose(bias.grad.numpy(), 2 * per_step.sum(0), rtol=1e-5)


def test_no_gradient_asked_for_is_no_work():
    chip = layer("soft", False, True)
    sums = torch.zeros(2, 1, 5, requires_grad=True)
    _, membranes = fire_straight(chip, sums, torch.zeros(5), ATan(), False)
    assert not membranes.requires_grad


def test_straight_is_a_value_with_a_slope():
    x = torch.tensor([0.3, -0.7], requires_grad=True)
    y = straight(x, torch.tensor([2.0, -4.0]), torch.tensor(5.0))
    assert y.tolist() == [2.0, -4.0]
    (y * torch.tensor([1.0, 10.0])).sum().backward()
    assert x.grad.tolist() == [5.0, 50.0]
