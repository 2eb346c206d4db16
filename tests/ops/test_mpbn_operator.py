"""The MPBN operators as torch sees them, and which path runs."""

from __future__ import annotations

import pytest
import torch

from spikekit import surrogate
from spikekit.ops import paths
from spikekit.ops.lif import LIFRule
from spikekit.ops.mpbn import cpu, mpbn

CURVE = surrogate.ATan().encode()
DRIVES = {
    "dense": lambda: torch.randn(3, 4, 3),
    "channels last": lambda: torch.randn(3, 2, 4, 5, 3).movedim(-1, 2),
    "bfloat16": lambda: torch.randn(3, 4, 3).bfloat16(),
}


def arguments(x, per_neuron):
    shape = x.shape[2:] if per_neuron else ()
    axes = tuple(reversed(range(len(shape))))
    parameters = [(torch.rand(tuple(reversed(shape))) + 0.2).permute(axes) for _ in range(3)]
    return [*parameters, torch.rand(3) + 0.5, torch.rand(3)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("drive", "rest", "reset", "training"),
    [("dense", True, "soft", True), ("channels last", False, "none", False), ("bfloat16", False, "soft", True)],
)
def test_opcheck(fused, drive, rest, reset, training):
    x = DRIVES[drive]()
    v0 = None if rest else torch.randn(x.shape[1:], requires_grad=True)
    leaves = [a.requires_grad_() for a in arguments(x, per_neuron=not rest)]
    known = [torch.rand(3) + 0.1, torch.rand(3) + 0.1]
    rule = (training, 0.1, 1e-5, reset, False, False, *CURVE, False, True, fused)
    torch.library.opcheck(torch.ops.spikekit.mpbn.default, (x.requires_grad_(), v0, *leaves, *known, *rule))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("drive", ["channels last", "bfloat16"])
def test_opcheck_inference(fused, drive):
    x = DRIVES[drive]()
    rule = (True, 0.1, 1e-5, "soft", False, False, *CURVE, False, False, fused)
    known = (torch.zeros(3), torch.ones(3))
    torch.library.opcheck(torch.ops.spikekit.mpbn.default, (x, None, *arguments(x, True), *known, *rule))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("drive", "needs", "training"),
    [("dense", [True] * 7, True), ("channels last", [True] * 7, True), ("bfloat16", [True, *([False] * 6)], False)],
)
def test_opcheck_backward(fused, drive, needs, training):
    x = DRIVES[drive]()
    u = x.float()
    known = [torch.rand((3, 3) if training else (3,)) + 0.1 for _ in range(2)]
    # The gradient of a sum is one number shown everywhere, with strides of zero.
    grads = (torch.randn_like(x), torch.ones(()).expand(u.shape), torch.ones(()).expand(u.shape[1:]))
    rule = (training, 0.1, 1e-5, "soft", False, False, *CURVE, False, fused, x.dtype, needs)
    arguments_ = (*grads, u, torch.randn(u.shape[1:]), *arguments(x, True), *known, *rule)
    torch.library.opcheck(torch.ops.spikekit.mpbn_backward.default, arguments_)


def test_no_second_derivative():
    x = torch.randn(3, 4, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(run(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no derivative"):
        grad.sum().backward()


def run(x, curve=None):
    parameters = [torch.tensor(value) for value in (0.9, 0.4, 0.6)]
    rule = LIFRule("soft", False, False, curve or surrogate.ATan())
    one, zero = torch.ones(2), torch.zeros(2)
    return mpbn(x, None, *parameters, one, zero, zero, one, True, 0.1, 1e-5, rule)[0]


def test_a_surrogate_without_a_kernel_takes_the_pure_torch_path(monkeypatch):
    class Flat(surrogate.Surrogate):
        def derivative(self, m):
            return torch.ones_like(m)

    def forbidden(*args):
        pytest.fail("the C kernels do not know this surrogate")

    x = torch.randn(3, 4, 2)
    expected = run(x)
    monkeypatch.setattr(cpu, "forward", forbidden)
    assert torch.equal(run(x, Flat()), expected)


def test_without_a_compiler_the_numbers_are_the_same(monkeypatch):
    x = torch.randn(3, 4, 2)
    expected = run(x)
    monkeypatch.setattr(cpu.KERNELS, "trusted", lambda dtype: False)
    assert torch.equal(run(x), expected)


def test_reference_can_be_forced():
    x = torch.randn(3, 4, 2, requires_grad=True)
    try:
        paths.set_path("reference")
        assert "Stack" in type(run(x).grad_fn).__name__
    finally:
        paths.set_path("auto")
    assert type(run(x).grad_fn).__name__ == "Backward_mpbnBackward"


def test_the_self_test_finds_a_wrong_kernel(monkeypatch):
    right = cpu.forward

    def wrong(*args):
        spikes, *rest = right(*args)
        return 1 - spikes, *rest

    monkeypatch.setattr(cpu, "forward", wrong)
    with pytest.raises(ArithmeticError, match="other spikes"):
        cpu._self_test(torch.float32)
