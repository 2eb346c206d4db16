"""Triton kernels are judged where nothing of the caller's reaches them."""

from __future__ import annotations

import pytest
import torch

from spikekit.ops import gpu


@pytest.fixture
def judged(triton_device):
    """The refusal of kernels whose self-test makes a tensor as the shipped ones do, under `context`."""

    def self_test(device, dtype):
        x = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=dtype)
        if x.device.type != "cpu" or x.is_inference():
            raise ArithmeticError("not a plain tensor of the CPU")

    def judge(context):
        kernels = gpu.Kernels("spikekit.ops.lif.triton_kernels", self_test)
        with context:
            return kernels.refusal(torch.float32)

    return judge


@pytest.mark.parametrize("context", [torch.device("meta"), torch.inference_mode()], ids=["default device", "inference"])
def test_the_callers_modes_do_not_reach_the_self_test(context, judged):
    assert judged(context) == ""


def test_a_failed_self_test_is_told(triton_device):
    def self_test(device, dtype):
        raise ArithmeticError("other spikes")

    kernels = gpu.Kernels("spikekit.ops.lif.triton_kernels", self_test)
    assert kernels.refusal(torch.float32) == "self-test failed: ArithmeticError: other spikes"
    assert not kernels.trusted(torch.float32)
