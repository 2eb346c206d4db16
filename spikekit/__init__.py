"""spikekit: spiking neural networks in PyTorch, from event data to Loihi-style chips.

Modules take and return [T, B, ...] and are at rest at the start of every call; sequences are carried on with `run`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spikekit import errors, presets, surrogate
from spikekit.folding import fold, verify_fold
from spikekit.native.allocator import tune_allocator
from spikekit.neurons import (
    ALIF,
    CUBALIF,
    IF,
    LI,
    LIF,
    Astrocyte,
    FoldedLIF,
    Neuron,
    RecurrentLIF,
    RefractoryLIF,
    SigmaDelta,
)
from spikekit.norm import MPBN, TDBN1d, TDBN2d
from spikekit.rectifier import MPR
from spikekit.rematerialise import checkpoint_time
from spikekit.sequential import Sequential, fold_time
from spikekit.state import map_state, record, run, scan
from spikekit.tripartite import TripartiteSynapse

if TYPE_CHECKING:
    from spikekit import continual, datasets, detect, events, export, interop, learning, measure, models, viz
    from spikekit.train import Trainer

__version__ = "0.1.0"

__all__ = [
    "ALIF",
    "Astrocyte",
    "CUBALIF",
    "FoldedLIF",
    "IF",
    "LI",
    "LIF",
    "MPBN",
    "MPR",
    "Neuron",
    "RecurrentLIF",
    "RefractoryLIF",
    "Sequential",
    "SigmaDelta",
    "TDBN1d",
    "TDBN2d",
    "Trainer",
    "TripartiteSynapse",
    "checkpoint_time",
    "continual",
    "datasets",
    "detect",
    "errors",
    "events",
    "export",
    "fold",
    "fold_time",
    "interop",
    "learning",
    "map_state",
    "measure",
    "models",
    "presets",
    "record",
    "run",
    "scan",
    "surrogate",
    "tune_allocator",
    "verify_fold",
    "viz",
]

# Imported at first use: `import spikekit` costs torch, numpy and the core, nothing else.
_LAZY_MODULES = frozenset(
    {"continual", "datasets", "detect", "events", "export", "interop", "learning", "measure", "models", "viz"}
)


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"spikekit.{name}")
    if name == "Trainer":
        return importlib.import_module("spikekit.train").Trainer
    raise AttributeError(f"module 'spikekit' has no attribute {name!r}")
