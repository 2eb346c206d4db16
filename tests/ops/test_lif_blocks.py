"""The backward pass works through time in blocks: where they are cut must not show."""

from __future__ import annotations

import pytest
import torch

from spikekit import surrogate
from spikekit.ops.lif import LIFRule, lif, lif_reference, sequence

NEURONS = 2 * 3


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("steps", [1, 2, 3, 7], ids=lambda steps: f"{steps} steps a block")
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_blocks(steps, reset, detach, rest, dtype, equal_to_reference, monkeypatch):
    monkeypatch.setattr(sequence, "_BLOCK", steps * NEURONS)
    rule = LIFRule(reset, False, detach, surrogate.ATan())
    state = torch.float64 if dtype == torch.float64 else torch.float32
    x = (torch.randn(7, 2, 3) + 0.4).to(dtype)
    v0 = None if rest else torch.randn(2, 3, dtype=state)
    parameters = [torch.rand(3, dtype=state) * 0.5 + 0.4 for _ in range(3)]
    equal_to_reference(
        lambda *i: lif(*i, rule, keep_membranes=True), lambda *i: lif_reference(*i, rule), [x, v0, *parameters]
    )


def test_a_layer_larger_than_a_block(equal_to_reference, monkeypatch, poison):
    monkeypatch.setattr(sequence, "_BLOCK", 5)
    rule = LIFRule("soft", False, False, surrogate.Triangle())
    inputs = [torch.randn(4, 2, 3, 4, 4) + 0.4, None, *(torch.rand(3, 1, 1) + 0.2 for _ in range(3))]
    equal_to_reference(lambda *i: lif(*i, rule, keep_membranes=True), lambda *i: lif_reference(*i, rule), inputs)
