"""The MPBN operation: picks the path that computes `reference.mpbn_reference` fastest for this call."""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.lif.reference import LIFRule
from spikekit.ops.mpbn.cpu import supports
from spikekit.ops.mpbn.operator import mpbn_operator
from spikekit.ops.mpbn.reference import moments, mpbn_reference, normalise
from spikekit.ops.paths import forced_path, functorch_active

__all__ = ["moments", "mpbn", "mpbn_reference", "normalise"]


def mpbn(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    rule: LIFRule,
    *,
    keep_membranes: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """Spikes, membranes (None unless kept or needed by the path), last v, and the statistics of the steps.

    Arguments and results as in `mpbn_reference`, whose numbers every path returns.
    """
    path = forced_path()
    if path == "reference" or functorch_active():
        return mpbn_reference(x, v0, beta, threshold, quantum, weight, bias, mean, var, eps, rule)
    inputs = (x, v0, beta, threshold, quantum, weight, bias)
    differentiable = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in inputs)
    name, numbers = rule.surrogate.encode()
    fused = path == "auto" and supports(x.device.type, x.dtype, name)
    keep = keep_membranes or differentiable
    spikes, membranes, v, *statistics = mpbn_operator(
        *inputs, mean, var, eps, rule.reset, rule.inclusive, rule.detach_reset, name, numbers, keep, fused
    )
    means, variances = statistics if mean is None else (None, None)
    return spikes, membranes if keep else None, v, means, variances
