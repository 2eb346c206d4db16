from __future__ import annotations

import pytest
import torch

from tests.rematerialise.nets import B, T


@pytest.fixture
def x():
    return torch.randn(T, B, 6, dtype=torch.float64).requires_grad_()
