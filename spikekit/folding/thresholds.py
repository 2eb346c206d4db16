"""Membrane potential batch normalisation as thresholds, in float64.

A neuron that fires where m = weight·(u - mean)/σ + bias > θ, with σ = √(var + eps), compares u itself with

    θ̃ = (θ - bias)·σ/weight + mean         fires where u > θ̃ if weight > 0, where u < θ̃ if weight < 0

Guo et al. 2023, ICCV, arXiv 2308.08359; the second case is ours. The reset is of u and keeps its quantum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons import LIF
from spikekit.neurons.parameters import read_parameter
from spikekit.norm import MPBN


class Thresholds(NamedTuple):
    """threshold: θ̃; sign: 1 where the neuron fires above it, -1 where below. Float64, both [C] or one a neuron."""

    threshold: Tensor
    sign: Tensor


@torch.no_grad()
def folded_thresholds(name: str, neuron: LIF) -> Thresholds:
    """What an LIF compares u with, whether it has a norm or not; name: what errors call the layer.

    Raises InputError naming the layer, and the channel or neuron, for a norm in train mode, for running statistics that
    never saw data, for a weight of 0 and for what is not finite.
    """
    threshold = read_parameter(neuron, "threshold").double()
    norm = neuron.norm
    if norm is None:
        return Thresholds(threshold, torch.ones_like(threshold))
    if type(norm).lif is not MPBN.lif or "lif" in vars(norm):
        raise InputError(f"layer {name}: {norm} ({type(norm).__name__}) defines lif itself; use sk.MPBN itself")
    if norm.training:
        raise InputError(f"layer {name}: {norm} is in train mode, where each step has its own statistics; call .eval()")
    check_statistics(name, norm, norm.running_mean, norm.running_var)
    mean, sigma = norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt()
    weight, bias = norm._affine(torch.float64)
    if len(zero := (weight == 0).nonzero()):
        raise InputError(
            f"layer {name}: the weight of {norm} is 0 for {place(zero[0])}, one of {len(zero)}: whatever its membrane, "
            "it fires at every step or at none. Prune it, or train with sk.MPBN(..., positive=True)."
        )
    # One axis means one value a channel: it meets a threshold a neuron, and the other way round.
    axes = max(threshold.ndim, mean.ndim)
    threshold, mean, sigma, weight, bias = (_widened(a, axes) for a in (threshold, mean, sigma, weight, bias))
    folded = (threshold - bias) * sigma / weight + mean
    if len(bad := (~torch.isfinite(folded)).nonzero()):
        raise InputError(
            f"layer {name}: the folded threshold of {place(bad[0])} is not finite; look at the statistics of {norm}"
        )
    return Thresholds(folded, weight.sign().expand_as(folded).contiguous())


def check_statistics(name: str, norm: torch.nn.Module, mean: Tensor, var: Tensor) -> None:
    """Raise InputError where running statistics are what they were at the start."""
    seen = norm.num_batches_tracked
    if isinstance(seen, Tensor) and int(seen) == 0 and bool((mean == 0).all()) and bool((var == 1).all()):
        raise InputError(
            f"layer {name}: the running statistics of {norm} were never updated, so folding would be of mean 0 and "
            "variance 1. Run the network on data in train mode first, or load trained weights."
        )


def place(index: Tensor) -> str:
    """A channel or a neuron in words; index: one row of `nonzero()`."""
    at = index.tolist()
    return f"channel {at[0]}" if len(at) == 1 else f"neuron {tuple(at)}"


def _widened(a: Tensor, axes: int) -> Tensor:
    return a.reshape(-1, *[1] * (axes - 1)) if a.ndim == 1 and axes > 1 else a
