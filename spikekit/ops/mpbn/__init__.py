"""The MPBN operation: picks the path that computes `reference.mpbn_reference` fastest for this call."""

from __future__ import annotations

from torch import Tensor

from spikekit.ops.gradients import wanted
from spikekit.ops.lif.reference import LIFRule
from spikekit.ops.mpbn import cpu, gpu
from spikekit.ops.mpbn.operator import mpbn_operator
from spikekit.ops.mpbn.reference import Outcome, moments, mpbn_reference, normalise
from spikekit.ops.paths import forced_path, functorch_active, triton_serves

__all__ = ["Outcome", "moments", "mpbn", "mpbn_reference", "normalise"]


def mpbn(
    x: Tensor,
    v0: Tensor | None,
    beta: Tensor,
    threshold: Tensor,
    quantum: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    rule: LIFRule,
    *,
    keep_membranes: bool = False,
    sync: bool = False,
) -> Outcome:
    """Arguments and results as in `mpbn_reference`, whose numbers every path returns.

    The membranes are empty unless kept or needed by the path. sync: the processes meet at every step, in plain torch.
    """
    path = forced_path()
    if path == "reference" or functorch_active():
        given = (weight, bias, mean, var, training, momentum, eps, rule, sync)
        return mpbn_reference(x, v0, beta, threshold, quantum, *given)
    inputs = (x, v0, beta, threshold, quantum, weight, bias)
    differentiable = wanted(*inputs)
    name, numbers = rule.surrogate.encode()
    if triton_serves(x.device.type):
        supported = gpu.fits(x.shape, weight.shape) and gpu.supports(x.dtype, name)
    else:
        supported = cpu.supports(x.device.type, x.dtype, name)
    # Kernels see one process alone.
    fused = path in ("auto", "triton") and supported and not sync
    keep = keep_membranes or differentiable
    choices = (rule.reset, rule.inclusive, rule.detach_reset, name, numbers)
    return Outcome(*mpbn_operator(*inputs, mean, var, training, momentum, eps, *choices, sync, keep, fused))
