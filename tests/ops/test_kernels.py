"""The C kernels of every operation pass their self-test: else the other tests would try plain torch in their place."""

from __future__ import annotations

import importlib

import pytest
import torch

from spikekit.doctor import KERNEL_MODULES


@pytest.mark.parametrize("name", KERNEL_MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_kernels_serve(name, dtype):
    assert importlib.import_module(name).KERNELS.refusal(dtype) == ""
