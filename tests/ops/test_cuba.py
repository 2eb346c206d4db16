"""The LIF with a synaptic current: every path against the reference."""

from __future__ import annotations

import itertools

import pytest
import torch

from spikekit import surrogate
from spikekit.ops.cuba import cuba, cuba_reference
from spikekit.ops.lif import LIFRule, state_dtype

CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))


def inputs(dtype, rest=False, parameter=()):
    state = state_dtype(dtype)
    states = [None if rest else torch.randn(2, 3, 4, 5, dtype=state) for _ in range(2)]
    parameters = [torch.rand(parameter, dtype=state) * 0.5 + 0.4 for _ in range(4)]
    return [(torch.randn(6, 2, 3, 4, 5) * 0.5 + 0.2).to(dtype), *states, *parameters]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
@pytest.mark.parametrize("parameter", [(), (3, 1, 1), (3, 4, 5)], ids=["scalar", "per channel", "per neuron"])
def test_rules(reset, inclusive, detach, parameter, equal_to_reference):
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    (spikes, *_), grads = equal_to_reference(
        lambda *i: cuba(*i, rule, keep_membranes=True),
        lambda *i: cuba_reference(*i, rule),
        inputs(torch.float32, parameter=parameter),
        (True, True, True, True),
    )
    assert 0.05 < spikes.mean() < 0.95
    assert all(g.abs().max() > 0 for g in grads[:6])


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_layouts_and_dtypes_without_membranes(dtype, layout, rest, equal_to_reference):
    rule = LIFRule("soft", False, False, surrogate.Triangle())
    x, *others = inputs(dtype, rest, (3, 1, 1))

    def without(op):
        def outputs(*tensors):
            spikes, currents, _, v = op(*tensors, rule)
            return spikes, currents[-1], v

        return outputs

    equal_to_reference(without(cuba), without(cuba_reference), [layout(x), *others])
