"""Every combination of choices of the LIF: the sequence path against the reference."""

from __future__ import annotations

import itertools

import pytest
import torch

from spikekit import surrogate
from spikekit.ops.lif import LIFRule, lif, lif_reference

SURROGATES = [
    surrogate.ATan(),
    surrogate.Sigmoid(),
    surrogate.FastSigmoid(5.0),
    surrogate.Triangle(),
    surrogate.Rectangle(),
    surrogate.StraightThrough(),
    surrogate.SechBump(),
    surrogate.Exponential(),
]
CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))


def both(rule):
    def fast(*inputs):
        return lif(*inputs, rule, keep_membranes=True)

    def reference(*inputs):
        return lif_reference(*inputs, rule)

    return fast, reference


def grid(*shape, dtype=torch.float64):
    """Multiples of a quarter: the membrane meets the threshold, and every surrogate's kink, exactly."""
    return torch.randint(-4, 10, shape).to(dtype) / 4


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("curve", SURROGATES, ids=lambda curve: type(curve).__name__)
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
@pytest.mark.parametrize("quantum", [1.0, 0.75])
def test_rules(curve, reset, inclusive, detach, quantum, equal_to_reference):
    rule = LIFRule(reset, inclusive, detach, curve)
    inputs = [
        torch.randn(6, 2, 5, dtype=torch.float64) + 0.5,
        torch.randn(2, 5, dtype=torch.float64),
        *(torch.tensor(value, dtype=torch.float64) for value in (0.8, 1.0, quantum)),
    ]
    (spikes, _, _), grads = equal_to_reference(*both(rule), inputs)
    assert 0.1 < spikes.mean() < 0.9
    assert all(g.abs().max() > 0 for g in grads[:4])
    assert bool(grads[4].abs().max() > 0) == (reset == "soft")


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("curve", SURROGATES, ids=lambda curve: type(curve).__name__)
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
def test_rules_where_the_membrane_meets_the_threshold(curve, reset, inclusive, detach, equal_to_reference):
    rule = LIFRule(reset, inclusive, detach, curve)
    inputs = [grid(9, 4, 5), grid(4, 5), *(torch.tensor(v, dtype=torch.float64) for v in (1.0, 1.0, 1.0))]
    (_, membranes, _), _ = equal_to_reference(*both(rule), inputs)
    assert {-1.0, -0.5, 0.0, 0.5} <= set((membranes - 1).flatten().tolist())


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("use", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)])
@pytest.mark.parametrize("rest", [True, False])
def test_gradients_from_each_output_alone(reset, use, rest, equal_to_reference):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    inputs = [
        torch.randn(5, 2, 3) + 0.5,
        None if rest else torch.randn(2, 3),
        *(torch.tensor(value) for value in (0.8, 1.0, 0.9)),
    ]
    equal_to_reference(*both(rule), inputs, use)


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("keep", [True, False])
def test_inference_gives_the_numbers_of_training(reset, keep, poison):
    rule = LIFRule(reset, False, False, surrogate.ATan())
    x, v0 = torch.randn(7, 3, 4) + 0.5, torch.randn(3, 4)
    parameters = [torch.tensor(value) for value in (0.8, 1.0, 0.9)]
    expected = lif_reference(x, v0, *parameters, rule)
    with torch.no_grad():
        spikes, membranes, v = lif(x, v0, *parameters, rule, keep_membranes=keep)
    assert torch.equal(spikes, expected[0])
    assert torch.equal(v, expected[2])
    assert torch.equal(membranes, expected[1]) if keep else membranes is None


def test_one_tensor_as_threshold_and_quantum(poison):
    rule = LIFRule("soft", False, False, surrogate.ATan())
    x = torch.randn(6, 2, 5, dtype=torch.float64) + 0.5
    grads = []
    for op in (lif, lif_reference):
        threshold = torch.full((5,), 0.9, dtype=torch.float64, requires_grad=True)
        spikes, _, v = op(x, None, torch.tensor(0.8).double(), threshold, threshold, rule)
        grads += torch.autograd.grad((spikes * x).sum() + v.sum(), threshold)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)
