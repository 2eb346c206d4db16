"""Neurons: modules that hold parameters and hand the maths to `spikekit.ops`."""

from spikekit.neurons.base import Neuron
from spikekit.neurons.li import LI
from spikekit.neurons.lif import IF, LIF

__all__ = ["IF", "LI", "LIF", "Neuron"]
