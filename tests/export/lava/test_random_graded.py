"""Random sigma-delta networks: the integer simulator beside Lava, every message and every last state of every layer.

`python -m pytest -m slow tests/export/lava/test_random_graded.py` runs the full set.
"""

from __future__ import annotations

import pytest
import torch

from tests.export.lava import held
from tests.export.random_graded import chips

FULL, FAST, EACH = 166, 6, 20


def extremes(chip, traces):
    """Whether a sum wrapped, a sum stood at its limit, a message was the largest."""
    graded = [(layer, trace) for layer, trace in zip(chip.layers, traces, strict=True) if layer.graded]
    return (
        *held.extremes([trace for _, trace in graded]),
        any(bool((trace.spikes.abs() == layer.largest).any()) for layer, trace in graded),
    )


def prove(seed, worker):
    """Both networks beside Lava; returns which extremes were seen."""
    chip, loud, x, strong = chips(seed)
    held.hold(seed, worker, chip, x, loud, strong)
    return extremes(loud, loud.trace(strong))


@pytest.mark.parametrize("seed", range(FAST))
def test_random_networks_are_equal_in_lava(seed, worker):
    prove(seed, worker)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FAST, FULL, EACH))
def test_many_random_networks_are_equal_in_lava(first, worker):
    seen = [prove(seed, worker) for seed in range(first, min(first + EACH, FULL))]
    # The extremes were really visited.
    assert all(map(any, zip(*seen, strict=True)))


def test_the_draw_covers_every_part():
    drawn = [chips(seed) for seed in range(40)]
    layers = [layer for chip, *_ in drawn for layer in chip.layers]
    inputs = [(layer, each) for layer in layers for each in layer.inputs]
    assert {each.synapses.kind for _, each in inputs} == {"conv", "dense", "sparse"}
    assert {layer.activation for layer in layers} == {"relu", "none", None}
    # Numbers into every kind of neuron, and spikes into those that send numbers.
    assert {(each.grain is not None, layer.graded) for layer, each in inputs if each.source >= 0} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip
    assert any(len({each.grain for each in layer.inputs}) > 1 for layer in layers)
    assert any(each.shift for layer, each in inputs if layer.graded)
    assert any(len(set(layer.message_shift.tolist())) > 1 for layer in layers if layer.graded)
    seen = [extremes(loud, loud.trace(strong)) for _, loud, _, strong in drawn]
    assert torch.tensor(seen).double().mean(0).min() > 0.1
