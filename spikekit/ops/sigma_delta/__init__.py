"""The sigma-delta neuron: picks the path that computes `reference.sigma_delta_reference` fastest for this call."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.gradients import wanted
from spikekit.ops.paths import forced_path, functorch_active
from spikekit.ops.sigma_delta.integer import SigmaDeltaRule, sigma_delta_integer
from spikekit.ops.sigma_delta.operator import sigma_delta_sequence
from spikekit.ops.sigma_delta.reference import sigma_delta_reference

__all__ = ["SigmaDeltaRule", "sigma_delta", "sigma_delta_integer", "sigma_delta_reference"]


def sigma_delta(
    x: Tensor,
    sigma0: Tensor | None,
    act0: Tensor | None,
    residue0: Tensor | None,
    threshold: Tensor,
    bias: Tensor,
    activation: str,
    *,
    keep_activations: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """Graded spikes, activations (None unless kept or needed by the path), last sigma, act and residue of a drive.

    Arguments as in `sigma_delta_reference`, whose numbers every path returns.
    """
    inputs = (x, sigma0, act0, residue0, threshold, bias)
    if forced_path() == "reference" or functorch_active():
        return sigma_delta_reference(*inputs, activation)
    keep = keep_activations or wanted(*inputs)
    spikes, activations, sigma, act, residue = sigma_delta_sequence(*inputs, activation, keep)
    return spikes, activations if keep else None, sigma, act, residue
