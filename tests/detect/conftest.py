from __future__ import annotations

import pytest

from spikekit.detect import Grid
from tests.detect.shapes import Shape


@pytest.fixture
def grid():
    """Images of 96 × 64: 6 × 4 and 3 × 2 cells."""
    return Grid.of(Shape(), (96, 64))
