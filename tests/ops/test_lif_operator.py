"""The LIF operators as torch sees them: schema, fake kernels, autograd registration, no second derivative."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikekit import surrogate
from spikekit.ops.lif import LIFRule, lif

CURVE = surrogate.ATan().encode()


def channels_last(*shape):
    return torch.randn(shape).movedim(-3, -1).contiguous().movedim(-1, -3)


DRIVES = {
    "dense": lambda: torch.randn(3, 2, 4),
    "channels last": lambda: channels_last(3, 2, 3, 4, 5),
    "batch first": lambda: torch.randn(2, 3, 4).transpose(0, 1),
    "bfloat16": lambda: torch.randn(3, 2, 4).bfloat16(),
}


def parameters(x, per_neuron):
    shape = x.shape[2:] if per_neuron else ()
    # Axes turned around in memory: what a fake kernel says about strides must hold here too.
    return [(torch.rand(tuple(reversed(shape))) + 0.2).permute(tuple(reversed(range(len(shape))))) for _ in range(3)]


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize(("rest", "reset"), [(True, "soft"), (False, "none")])
def test_opcheck_training(drive, rest, reset):
    x = DRIVES[drive]()
    v0 = None if rest else torch.randn(x.shape[1:], requires_grad=True)
    leaves = [a.requires_grad_() for a in parameters(x, per_neuron=not rest)]
    torch.library.opcheck(
        torch.ops.spikekit.lif.default, (x.requires_grad_(), v0, *leaves, reset, False, False, *CURVE)
    )


@pytest.mark.parametrize(("drive", "reset"), [*((drive, "soft") for drive in DRIVES), ("dense", "none")])
def test_opcheck_inference(drive, reset):
    x = DRIVES[drive]()
    torch.library.opcheck(
        torch.ops.spikekit.lif_inference.default, (x, None, *parameters(x, per_neuron=True), reset, False)
    )


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("needs", [[True] * 5, [True, False, False, False, False]], ids=["all", "x"])
def test_opcheck_backward(drive, needs):
    x = DRIVES[drive]()
    membranes = x.float()
    # The gradient of a sum is one number shown everywhere, with strides of zero.
    grad_v = torch.ones(()).expand(membranes.shape[1:])
    torch.library.opcheck(
        torch.ops.spikekit.lif_backward.default,
        (
            torch.randn_like(x),
            torch.randn_like(membranes),
            grad_v,
            membranes,
            torch.randn(membranes.shape[1:]),
            *parameters(x, per_neuron=True),
            *("soft", False, False, *CURVE, needs),
        ),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_fake_kernels_know_the_shapes(dtype, rest):
    with FakeTensorMode():
        x = torch.empty(5, 2, 3, 4, 4, dtype=dtype)
        v0 = None if rest else torch.empty(2, 3, 4, 4)
        scalars = [torch.empty(()) for _ in range(3)]
        training = torch.ops.spikekit.lif(x, v0, *scalars, "soft", False, False, *CURVE)
        inference = torch.ops.spikekit.lif_inference(x, v0, *scalars, "soft", False)
    found = [(tuple(y.shape), y.dtype) for y in (*training, *inference)]
    spikes, membranes, last = (
        ((5, 2, 3, 4, 4), dtype),
        ((5, 2, 3, 4, 4), torch.float32),
        ((2, 3, 4, 4), torch.float32),
    )
    assert found == [spikes, membranes, last, spikes, last]


def test_a_second_derivative_is_refused_not_wrong():
    x = torch.randn(3, 2, 4, requires_grad=True)
    rule = LIFRule("soft", False, False, surrogate.ATan())
    spikes, _, _ = lif(x, None, torch.tensor(0.9), torch.tensor(1.0), torch.tensor(1.0), rule)
    (grad,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        grad.sum().backward()
