"""From a trained network to a chip: plan, quantise, simulate in integers, and prove it equal to Lava."""

from spikekit.export.network import LoihiNet, to_loihi
from spikekit.export.report import LayerReport, layer_reports
from spikekit.export.verify import Divergence, LayerProof, Proof

__all__ = ["Divergence", "LayerProof", "LayerReport", "LoihiNet", "Proof", "layer_reports", "to_loihi"]
