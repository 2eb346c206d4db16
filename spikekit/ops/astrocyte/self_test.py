"""What the kernels of the astrocyte, in C and in Triton, are held against before they serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spikekit.ops.astrocyte.reference import ACTS_ON, AstrocyteRule, astrocyte_reference, sense
from spikekit.ops.lif.reference import LIFRule
from spikekit.ops.self_test import hold
from spikekit.surrogate import ATan

# What is modulated, and the reset.
CASES = tuple(zip(ACTS_ON, ("soft", "hard", "none"), strict=True))
_VALUES: dict[str, Any] = {
    **{"c0": torch.linspace(0.1, 0.9, 12).reshape(2, 2, 3), "beta": 0.9, "threshold": 0.5, "quantum": 0.7},
    **{"decay": torch.tensor([[0.9, 0.5, 0.7], [0.8, 0.6, 0.3]]), "weight": torch.tensor([[2.0, -1, 3], [1, 2, -2]])},
    **{"bias": torch.tensor([0.1, -0.2]), "strength": torch.tensor([0.6, -0.4])},
}


def hold_astrocyte(
    dtype: torch.dtype,
    cases: Sequence[tuple[str, str]],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    device: str = "cpu",
) -> None:
    """Hold `forward` and `backward`, as in `sequence`, against the reference. Raises ArithmeticError."""

    def run(case: tuple[str, str], x: Tensor, c0: Tensor, *values: Tensor) -> Sequence[Tensor]:
        acts_on, reset = case
        return forward(x, None, c0, None, values[:3], values[3:], reset, False, acts_on, 1.0, True)

    def gradients(
        case: tuple[str, str], upstream: Tensor, end: Tensor, outputs: Any, x: Tensor, c0: Tensor, *values: Tensor
    ) -> Sequence[Tensor]:
        acts_on, reset = case
        _, membranes, calcium, activity, _, c = outputs
        grads = (
            upstream,
            None,
            end,
            torch.ones_like(c),
            membranes,
            calcium,
            activity,
            x if acts_on == "gain" else None,
        )
        choices = (reset, False, False, *ATan().encode(), acts_on, 1.0, True)
        g_x, _, g_c, _, sums, of_glia = backward(*grads, None, c0, values[:3], values[3:], *choices)
        return g_x, g_c, *(total.sum(0) for total in sums), *of_glia

    hold(dtype, cases, _VALUES, _reference, run, gradients, ends=(4, 5), shape=(7, 2, 38), device=device)


def _reference(case: tuple[str, str], x: Tensor, c0: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """The outputs of the kernels, in their order."""
    acts_on, reset = case
    rule, astrocyte = LIFRule(reset, False, False, ATan()), AstrocyteRule(acts_on, 1.0)
    beta, threshold, quantum, decay, weight, bias, strength = values
    inputs = (x, None, c0, None, beta, threshold, quantum, decay, weight, bias, strength)
    spikes, membranes, calcium, v, c = astrocyte_reference(*inputs, rule, astrocyte)
    activity = torch.stack([sense(s, len(decay), None, 1.0) for s in spikes.detach()])
    return spikes, membranes, calcium, activity, v, c
