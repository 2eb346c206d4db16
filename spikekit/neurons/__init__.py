"""Neurons: modules that hold parameters and hand the maths to `spikekit.ops`."""

from spikekit.neurons.alif import ALIF
from spikekit.neurons.astrocyte import Astrocyte
from spikekit.neurons.base import Neuron
from spikekit.neurons.cuba import CUBALIF
from spikekit.neurons.folded import FoldedLIF
from spikekit.neurons.li import LI
from spikekit.neurons.lif import IF, LIF
from spikekit.neurons.recurrent import RecurrentLIF
from spikekit.neurons.refractory import RefractoryLIF
from spikekit.neurons.sigma_delta import SigmaDelta

__all__ = [
    "ALIF",
    "Astrocyte",
    "CUBALIF",
    "IF",
    "LI",
    "LIF",
    "FoldedLIF",
    "Neuron",
    "RecurrentLIF",
    "RefractoryLIF",
    "SigmaDelta",
]
