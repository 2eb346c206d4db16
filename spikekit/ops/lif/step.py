"""One step of the LIF in plain torch, written in place: what the whole-sequence paths of several operations share.

A buffer may hold one step [B, ...] or a block of steps [T, B, ...].
"""

from __future__ import annotations

import torch
from torch import Tensor


def spike(u: Tensor, threshold: Tensor, inclusive: bool, out: Tensor) -> Tensor:
    """Spikes of the membrane u, into `out`, which is of the dtype wanted."""
    return (torch.ge if inclusive else torch.gt)(u, threshold, out=out)


def after_reset(u: Tensor, s: Tensor, quantum: Tensor, reset: str, out: Tensor) -> Tensor:
    """State v from u and s into `out`; u itself where there is no reset.

    Products with s are exact: a fused form rounds like the reference.
    """
    if reset == "none":
        return u
    if reset == "hard":
        return torch.addcmul(u, u, s, value=-1, out=out)
    if quantum.ndim == 0 and quantum.device.type == "cpu":
        # sub(alpha) is vectorised where addcmul with a broadcast scalar is not.
        return torch.sub(u, s, alpha=float(quantum), out=out)
    return torch.addcmul(u, s, quantum, value=-1, out=out)


def feedback(
    u: Tensor,
    slope: Tensor,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    reset: str,
    inclusive: bool,
    detach_reset: bool,
    out: Tensor,
) -> Tensor | float:
    """The factor beta·dv/du of the recursion of gradients, into `out`; a float where it is one number that is at hand.

    slope: the surrogate's derivative at u - threshold.
    """
    if reset == "hard":
        lost = spike(u, threshold, inclusive, out)
        return after_reset(beta, lost if detach_reset else lost.addcmul_(u, slope), beta, "soft", out)
    if reset == "soft" and not detach_reset:
        return after_reset(beta, slope, beta * quantum, "soft", out)
    return float(beta) if beta.ndim == 0 and beta.device.type == "cpu" else out.copy_(beta)
