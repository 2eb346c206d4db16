"""NIR graphs by hand, for the tests of what is read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

nir = pytest.importorskip("nir", reason="pip install 'spikekit[nir]'")
GOLDEN = Path(__file__).parent / "golden"


def graph_of(*nodes, edges=None):
    named = {f"n{index}": node for index, node in enumerate(nodes)}
    names = list(named)
    edges = edges or list(itertools.pairwise(names))
    return nir.NIRGraph(named, edges, type_check=False)


def ends():
    return nir.Input(np.array([2])), nir.Output(np.array([2]))
