"""The leaky-integrator operation: picks the path that computes `reference.li_reference` fastest for this call."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.li.fused import li_fused, supports
from spikekit.ops.li.reference import li_reference
from spikekit.ops.li.sequence import li_sequence
from spikekit.ops.paths import forced_path, functorch_active

__all__ = ["li", "li_reference"]


def li(x: Tensor, v0: Tensor | None, beta: Tensor) -> Tensor:
    """Membranes [T, B, ...] of a drive [T, B, ...]; arguments and numbers as in `li_reference`."""
    path = forced_path()
    if path == "reference" or functorch_active():
        return li_reference(x, v0, beta)
    if path in ("auto", "triton") and supports(x.device.type, x.dtype):
        return li_fused(x, v0, beta)
    return li_sequence(x, v0, beta)
