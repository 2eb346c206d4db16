"""The sigma-delta neuron, defined: a plain loop over time that autograd differentiates.

    sigma[t] = sigma[t-1] + x[t]                   what arrives are changes: their sum is the drive
    act[t] = max(sigma[t] + bias, 0)               "relu";  sigma[t] + bias: "none"
    delta[t] = act[t] - act[t-1] + residue[t-1]    the change, and what was not sent before
    s[t] = delta[t] if |delta[t]| >= threshold else 0
    residue[t] = delta[t] - s[t]

All state is zero at rest. s is graded: it carries a number. The sum of all s sent follows act, and is less than the
threshold away from it. Where x is of half precision, s is rounded to it and the rest stays in the residue. In the
backward pass the encoder is passed straight through, ds/ddelta = 1, so that the residue has no gradient.
Source: lava-nc 0.10.0, lava.proc.sdn.models, SigmaDelta with cum_error=False.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype


def sigma_delta_reference(
    x: Tensor,
    sigma0: Tensor | None,
    act0: Tensor | None,
    residue0: Tensor | None,
    threshold: Tensor,
    bias: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run the equations above over the whole sequence.

    x: drive [T, B, ...]. sigma0, act0, residue0: [B, ...] or None. threshold, bias: broadcastable to [B, ...].
    Returns graded spikes [T, B, ...] in x's dtype; activations [T, B, ...], the last sigma, act and residue [B, ...] in
    `state_dtype`.
    """
    dtype = state_dtype(x.dtype)
    rest = torch.zeros_like(x[0], dtype=dtype)
    sigma, act, residue = (rest if start is None else start for start in (sigma0, act0, residue0))
    spikes, activations = [], []
    for drive in x.unbind(0):
        sigma = sigma + drive.to(dtype)
        before, act = act, sigma + bias
        if activation == "relu":
            act = torch.relu(act)
        delta = act - before + residue
        sent = torch.where(delta.abs() >= threshold, delta, 0.0).detach().to(x.dtype)
        residue = delta.detach() - sent.to(dtype)
        # In the forward pass line - line.detach() is exactly zero.
        line = delta.to(x.dtype)
        spikes.append(sent + (line - line.detach()))
        activations.append(act)
    return torch.stack(spikes), torch.stack(activations), sigma, act, residue
