"""Random networks over everything that can be exported: the integer simulator beside Lava, every spike of every layer.

`python -m pytest -m slow tests/export/lava/test_random.py` runs the full set.
"""

from __future__ import annotations

import pytest
import torch

from tests.export.lava.held import extremes, hold
from tests.export.random_nets import chips, random_net

FULL, FAST, EACH = 240, 12, 20


def prove(seed, worker):
    """Both networks beside Lava; returns which of wrap and saturation were seen."""
    net, x = random_net(seed)
    chip, loud = chips(net, x, seed)
    hold(seed, worker, chip, x, loud, x)
    return extremes(loud.trace(x))


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
    layers = [layer for seed in range(60) for layer in chips(*random_net(seed), seed)[0].layers]
    kinds = {(each.synapses.kind, each.source == -2) for layer in layers for each in layer.inputs}
    assert kinds == {("conv", False), ("dense", False), ("sparse", False), ("dense", True)}
    assert {layer.reset for layer in layers} == {"soft", "hard", "none"}
    assert any(len(layer.inputs) > 1 and layer.inputs[1].shift for layer in layers)
    assert any(layer.current_decay is not None for layer in layers)
    assert any(layer.adapt_decay is not None for layer in layers)
    assert any(layer.period for layer in layers)
    assert torch.tensor([layer.fires for layer in layers]).double().mean() > 0.7
