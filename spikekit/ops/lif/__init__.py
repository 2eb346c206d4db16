"""The LIF operation: picks the path that computes `reference.lif_reference` fastest for this call."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.gradients import wanted
from spikekit.ops.lif import gpu
from spikekit.ops.lif.operator import lif_inference, lif_training
from spikekit.ops.lif.reference import LIFRule, lif_reference, state_dtype
from spikekit.ops.lif.triton_operator import lif_fused, supports
from spikekit.ops.paths import forced_path, functorch_active

__all__ = ["LIFRule", "lif", "lif_reference", "state_dtype"]


def lif(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    rule: LIFRule,
    *,
    keep_membranes: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Spikes, membranes (None unless kept or needed by the path) and last v of a drive [T, B, ...].

    Arguments as in `lif_reference`, whose numbers every path returns.
    """
    path = forced_path()
    if path == "reference" or functorch_active():
        return lif_reference(x, v0, beta, threshold, quantum, rule)
    differentiable = wanted(x, v0, beta, threshold, quantum)
    name, numbers = rule.surrogate.encode()
    if path in ("auto", "triton") and not keep_membranes and supports(x.device.type, x.dtype, name):
        spikes, _, v = lif_fused(
            x,
            v0,
            beta,
            threshold,
            quantum,
            rule.reset,
            rule.inclusive,
            rule.detach_reset,
            name,
            numbers,
            gpu.CHUNK if differentiable else 0,
        )
        return spikes, None, v
    if keep_membranes or differentiable:
        return lif_training(
            x, v0, beta, threshold, quantum, rule.reset, rule.inclusive, rule.detach_reset, name, numbers
        )
    spikes, v = lif_inference(x, v0, beta, threshold, quantum, rule.reset, rule.inclusive)
    return spikes, None, v
