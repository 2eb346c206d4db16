"""The tripartite synapse: a layer, the neurons behind it, and an astrocyte that senses both sides."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.neurons import LIF
from spikekit.sequential import fold_time, is_temporal


class TripartiteSynapse(nn.Module):
    """`neuron(layer(x), presynaptic=x)` as one layer of `sk.Sequential`: spikes [T, B, ...] to spikes [T, B, ...].

    layer: without time (nn.Linear, nn.Conv2d, ...), applied to every step. neuron: an `sk.LIF` whose `sk.Astrocyte` has
    senses="pre" or "both"; it is given the spikes x that go into the layer. They are named "<name>.layer" and
    "<name>.neuron". Raises InputError for another neuron, and for a layer that needs time.

    Source of the term: Araque et al. 1999, Trends in Neurosciences 22:208.
    """

    temporal: ClassVar[bool] = True

    def __init__(self, layer: nn.Module, neuron: LIF) -> None:
        super().__init__()
        if not isinstance(neuron, LIF) or neuron.astrocyte is None or neuron.astrocyte.senses == "post":
            raise InputError(
                "TripartiteSynapse: the neuron must be an sk.LIF with an astrocyte that senses presynaptic spikes, "
                f"sk.LIF(astrocyte=sk.Astrocyte(senses='both')), got {neuron!r}"
            )
        if not isinstance(layer, nn.Module) or is_temporal(layer):
            raise InputError(f"TripartiteSynapse: the layer must be a module without time, got {layer!r}")
        self.layer, self.neuron = layer, neuron

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, ...], spikes, to the spikes [T, B, ...] of the neurons."""
        return self.neuron(fold_time(self.layer)(x), presynaptic=x)
