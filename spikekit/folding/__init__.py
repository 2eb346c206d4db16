"""Folding: normalisation into weights and thresholds, for inference, and the proof that no decision changed."""

from spikekit.folding.batch_norm import affine_of
from spikekit.folding.fold import FoldReport, fold
from spikekit.folding.thresholds import Thresholds, folded_thresholds
from spikekit.folding.verify import FoldedLayer, FoldProof, verify_fold

__all__ = [
    "FoldProof",
    "FoldReport",
    "FoldedLayer",
    "Thresholds",
    "affine_of",
    "fold",
    "folded_thresholds",
    "verify_fold",
]
