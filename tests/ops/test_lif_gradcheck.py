"""The hand-written backward pass, held against finite differences.

A spike has no derivative, so the step is replaced by a smooth one, the surrogate's antiderivative, in the reference and
in the sequence path alike. Then the surrogate gradient is the true gradient, and gradcheck can judge it.
"""

from __future__ import annotations

import pytest
import torch

from spikekit import surrogate
from spikekit.ops import paths
from spikekit.ops.lif import LIFRule, lif, lif_reference, reference, step

# Without kinks near the points tested; finite differences do not see through one.
SMOOTH = [surrogate.ATan(1.0), surrogate.Sigmoid(2.0)]


@pytest.fixture
def smooth(monkeypatch):
    def use(curve):
        def fire(u, threshold, rule):
            return curve.antiderivative(u - threshold)

        def spike(u, threshold, inclusive, out):
            return out.copy_(curve.antiderivative(u - threshold))

        # The C kernels cannot be given another spike.
        monkeypatch.setattr(paths, "_choice", "torch")
        monkeypatch.setattr(reference, "fire", fire)
        monkeypatch.setattr(step, "spike", spike)

    return use


@pytest.mark.parametrize("op", [lif_reference, lif], ids=["reference", "sequence"])
@pytest.mark.parametrize("curve", SMOOTH, ids=lambda curve: type(curve).__name__)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gradcheck_on_a_smooth_spike(op, curve, reset, per_channel, smooth, poison):
    smooth(curve)
    rule = LIFRule(reset, False, False, curve)
    shape = (2, 1) if per_channel else ()
    inputs = [
        torch.randn(4, 2, 2, 2, dtype=torch.float64),
        torch.randn(2, 2, 2, dtype=torch.float64),
        *(torch.rand(shape, dtype=torch.float64) * 0.5 + 0.4 for _ in range(3)),
    ]

    def outputs(*args):
        return op(*args, rule)

    assert torch.autograd.gradcheck(outputs, [a.requires_grad_() for a in inputs])
