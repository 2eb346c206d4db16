"""The leaky integrator, defined: v[t] = beta·v[t-1] + x[t], no spikes, no reset. Used as a readout."""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.ops.lif.reference import state_dtype


def li_reference(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes [T, B, ...] of a drive x [T, B, ...]; v0 [B, ...] or None, beta broadcastable to [B, ...]."""
    dtype = state_dtype(x.dtype)
    v = torch.zeros_like(x[0], dtype=dtype) if v0 is None else v0
    membranes = []
    for drive in x.unbind(0):
        v = beta * v + drive.to(dtype)
        membranes.append(v)
    return torch.stack(membranes)
