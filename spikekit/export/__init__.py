"""From a trained network to a chip: plan, quantise, simulate in integers, and prove it equal to Lava."""

from spikekit.export.loss import LayerLoss, QuantisationLoss, quantisation_loss
from spikekit.export.network import LoihiNet, to_loihi
from spikekit.export.qat import QATLayer, QATNetwork, qat
from spikekit.export.report import LayerReport, layer_reports
from spikekit.export.verify import Divergence, LayerProof, Proof

__all__ = [
    "Divergence",
    "LayerLoss",
    "LayerProof",
    "LayerReport",
    "LoihiNet",
    "Proof",
    "QATLayer",
    "QATNetwork",
    "QuantisationLoss",
    "layer_reports",
    "qat",
    "quantisation_loss",
    "to_loihi",
]
