from __future__ import annotations

import pytest
import torch

from spikekit.errors import InputError
from spikekit.train import WarmCosine, cosine


def rates(schedule, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_cosine_falls_from_full_to_zero():
    assert rates(cosine, 4) == pytest.approx([2.0, 1.7071068, 1.0, 0.2928932, 0.0])


def test_warm_cosine_rises_straight_then_falls_to_zero():
    seen = rates(WarmCosine(0.5), 8)
    assert seen[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert seen[6] == pytest.approx(1.0)
    assert seen[8] == pytest.approx(0.0)


def test_warm_cosine_without_warmup_is_cosine():
    assert rates(WarmCosine(0.0), 5) == pytest.approx(rates(cosine, 5))


def test_warmup_is_a_part():
    with pytest.raises(InputError, match="warmup is a part"):
        WarmCosine(1.0)
