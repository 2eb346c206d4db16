"""Random networks with astrocytes: the integer simulator beside Lava, every spike and every last membrane.

`python -m pytest -m slow tests/export/lava/test_random_astrocytes.py` runs the full set.
"""

from __future__ import annotations

import pytest

from spikekit.export.plan import plan
from tests.export.lava.held import extremes, hold
from tests.export.random_astrocytes import chips, random_astrocytes

FULL, FAST, EACH = 166, 6, 20


def prove(seed, worker):
    """Both networks beside Lava; returns which of wrap and saturation were seen."""
    chip, loud, x = chips(seed)
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
    layers = [layer for seed in range(30) for layer in plan(*random_astrocytes(seed)).layers]
    over = [layer for layer in layers if layer.astrocyte is not None]
    assert len(over) > 30
    assert {(layer.astrocyte.acts_on, bool(layer.senses)) for layer in over} == {
        (acts_on, senses) for acts_on in ("gain", "threshold") for senses in (False, True)
    }
    assert {layer.astrocyte.own for layer in over} == {0.0, 0.5, 1.0}
    assert {layer.reset for layer in over} == {"soft", "hard", "none"}
    assert {layer.inclusive for layer in over} == {False, True}
    assert {source for layer in over for source in (each.source for each in layer.senses)} > {-1, 0}
    assert any(len(layer.senses) > 1 for layer in over)
    assert {layer.astrocyte.decay.shape[1] for layer in over} == {1, 2, 3}
    assert any(not layer.astrocyte.strength.any() for layer in over)
