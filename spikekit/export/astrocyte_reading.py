"""How the astrocyte of a neuron's module becomes that of a layer of the plan."""

from __future__ import annotations

from copy import deepcopy
from math import prod

import numpy as np
import torch

from spikekit.errors import ExportError
from spikekit.export.astrocyte import FloatAstrocyte
from spikekit.export.signal import Signal
from spikekit.export.synapses import Projection, Synapses
from spikekit.neurons import LIF, Neuron
from spikekit.neurons.parameters import read_parameter


def astrocyte_of(
    name: str, neuron: Neuron, shape: tuple[int, ...], presynaptic: Signal | None
) -> tuple[FloatAstrocyte | None, tuple[Projection, ...]]:
    """The astrocyte over neurons of `shape`, None without one, and how presynaptic spikes reach its domains.

    One that acts on plasticity is none: nothing that is computed forward depends on it. Raises ExportError, naming the
    layer, for domains that do not divide the channels, numbers that are not finite, and where what is sensed is no
    spikes.
    """
    own = neuron.astrocyte if isinstance(neuron, LIF) else None
    if own is None or own.acts_on == "plasticity":
        return None, ()
    if shape[0] % own.domains:
        raise ExportError(f"layer {name}: the {own.domains} domains of its Astrocyte do not divide {shape[0]} channels")
    heard, senses = (0, ()) if own.senses == "post" else _senses(name, own.domains, presynaptic)
    # What is learned is read in float64, as the network is when the plan is held against it.
    exact, names = deepcopy(own).cpu().double(), ("timescales", "weight", "bias", "strength")
    times, *others = (read_parameter(exact, each).detach() for each in names)
    parts = [each.numpy() for each in (torch.exp(-1 / times), *others)]
    if not all(np.isfinite(each).all() for each in parts):
        raise ExportError(f"layer {name}: its Astrocyte holds NaN or Inf; was the training stable?")
    return FloatAstrocyte(own.acts_on, own.rule.own, heard, *parts), senses


def _senses(name: str, domains: int, presynaptic: Signal | None) -> tuple[int, tuple[Projection, ...]]:
    """Presynaptic neurons of a domain, and each source's synapses of weight 1 onto the domains."""
    if presynaptic is None or not presynaptic.bare():
        found = "nothing tells which these are" if presynaptic is None else f"{presynaptic.origin} weighs or adds them"
        raise ExportError(
            f"layer {name}: its Astrocyte counts the spikes that arrive, and {found}. Use sk.TripartiteSynapse "
            "directly behind neurons or the input, or senses='post'"
        )
    neurons = prod(presynaptic.shape)
    if presynaptic.shape[0] % domains:
        raise ExportError(
            f"layer {name}: the {domains} domains of its Astrocyte do not divide the {presynaptic.shape[0]} channels "
            "that it senses"
        )
    senses, size = [], neurons // presynaptic.shape[0]
    for term in presynaptic.terms:
        pre = np.arange(prod(term.shape))
        post = (pre + term.offset * size) * domains // neurons
        ends = np.stack([post, pre])
        senses.append(Projection(term.source, Synapses("sparse", np.ones(len(pre)), term.shape, (domains,), ends=ends)))
    return neurons // domains, tuple(senses)
