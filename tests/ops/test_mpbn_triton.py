"""The MPBN's Triton kernels against the reference: on the GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from spikekit import surrogate
from spikekit.ops.lif import LIFRule, state_dtype
from spikekit.ops.mpbn import gpu, mpbn, mpbn_reference


@pytest.fixture
def check(triton_device, equal_to_reference):
    """Hold spikes, last v, gradients and statistics against the reference; membranes too where they are kept."""

    def checked(x, v0, rule, training=True, keep=False, each=False, parameters=((), (), ())):
        state = state_dtype(x.dtype)
        shape = x.shape[2:] if each else x.shape[2:3]
        values = [torch.rand(s, dtype=state) * 0.2 + low for s, low in zip(parameters, (0.75, 0.3, 0.6), strict=True)]
        inputs = [x, v0, *values, torch.rand(shape, dtype=state) + 0.5, torch.randn(shape, dtype=state) / 3]
        inputs = [None if a is None else a.to(triton_device) for a in inputs]
        running = [(torch.rand(shape, dtype=state) + 0.2).to(triton_device) for _ in range(2)]
        rest = (*running, training, 0.3, 1e-5, rule)
        chosen = (0, 1, 2) if keep else (0, 2)
        calls = []
        forward = gpu.forward

        def outputs(op, **settings):
            def run(*leaves):
                found = op(*leaves, *rest, **settings)
                return tuple(found[index] for index in chosen)

            return run

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gpu, "forward", lambda *args: calls.append(args) or forward(*args))
            equal_to_reference(outputs(mpbn, keep_membranes=keep), outputs(mpbn_reference), inputs)
            found, expected = (op(*inputs, *rest)[3:] for op in (mpbn, mpbn_reference))
        assert sum(args[0].shape == x.shape for args in calls) == 2
        for value, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7)

    return checked


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_rules(reset, detach, training, check):
    rule = LIFRule(reset, detach, detach, surrogate.ATan())
    check(torch.randn(4, 5, 11) + 0.4, torch.randn(5, 11), rule, training, keep=detach)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 1), (3, 4, 8), (2, 9, 3)], ids=str)
def test_shapes_and_dtypes(dtype, shape, check):
    check((torch.randn(shape) + 0.4).to(dtype), None, LIFRule("soft", False, False, surrogate.Triangle()))


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 1), (1, 3, 1)], ids=str)
@pytest.mark.parametrize("layout", [torch.clone, lambda x: x.movedim(2, -1).contiguous().movedim(-1, 2)])
def test_parameters_and_layouts(shape, layout, check):
    x = layout(torch.randn(3, 4, 2, 3, 4) + 0.4)
    rule = LIFRule("soft", False, False, surrogate.ATan())
    check(x, torch.randn(4, 2, 3, 4), rule, each=True, parameters=(shape, shape, ()))


def test_what_fits():
    assert gpu.fits((4, 256, 7), (7,))
    assert not gpu.fits((4, 257, 7), (7,))
    assert gpu.fits((4, 2, 3, 5, 5), (3, 5, 5))
    assert not gpu.fits((4, 2, 3, 5, 5), (3,))


def test_other_shapes_take_another_path(triton_device):
    x = torch.randn(3, 2, 4, 3, 3, device=triton_device)
    values = [torch.full((), value, device=triton_device) for value in (0.9, 0.3, 0.7)]
    ones, zeros = torch.ones(4, device=triton_device), torch.zeros(4, device=triton_device)
    rest = (ones, zeros, zeros, ones, True, 0.1, 1e-5, LIFRule("soft", False, False, surrogate.ATan()))
    assert torch.equal(mpbn(x, None, *values, *rest).spikes, mpbn_reference(x, None, *values, *rest).spikes)
