"""The linear operators as torch sees them: schema, fake kernels, autograd registration, torch.compile."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import spikekit as sk
from spikekit.ops.linear import cpu

SIZES = [(8, 5, 7), (640, 256, 256)]


def operands(rows, inner, outer):
    return (torch.rand(rows, inner) < 0.05).float(), torch.randn(outer, inner), torch.randn(outer)


@pytest.mark.parametrize("sizes", SIZES)
def test_opcheck(sizes):
    x, weight, bias = (a.requires_grad_() for a in operands(*sizes))
    for b in (bias, None):
        torch.library.opcheck(torch.ops.spikekit.linear.default, (x, weight, b))


@pytest.mark.parametrize("needs", [[True, True, True], [False, True, False], [True, False, False]], ids=str)
@pytest.mark.parametrize("sizes", SIZES)
def test_opcheck_backward(sizes, needs):
    x, weight, _ = operands(*sizes)
    for grad in (torch.randn(len(x), len(weight)), torch.ones(()).expand(len(x), len(weight))):
        torch.library.opcheck(torch.ops.spikekit.linear_backward.default, (grad, x, weight, needs))


def test_fake_kernels_know_the_shapes():
    with FakeTensorMode():
        x, weight = torch.empty(8, 5, dtype=torch.float64), torch.empty(7, 5, dtype=torch.float64)
        y = torch.ops.spikekit.linear(x, weight, None)
        grads = torch.ops.spikekit.linear_backward(y, x, weight, [True, True, False])
    assert [(tuple(a.shape), a.dtype) for a in (y, *grads)] == [
        (shape, torch.float64) for shape in ((8, 7), (8, 5), (7, 5), (0,))
    ]


def test_a_whole_network_compiles_and_runs_by_events(monkeypatch):
    made = []
    for name in ("product", "outer"):
        made_by = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *args, f=made_by, n=name: made.append(n) or f(*args))
    net = sk.Sequential(nn.Linear(300, 256), sk.LIF(), nn.Linear(256, 256), sk.LIF(), nn.Linear(256, 5), sk.LI())
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x = (torch.rand(20, 16, 300) < 0.05).float()
    results = []
    for run in (net, compiled):
        made.clear()
        y = run(x)
        results.append((y, *torch.autograd.grad(y.square().mean(), list(net.parameters()))))
        assert made.count("product") >= 2
        assert made.count("outer") >= 2
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_operators_are_not_called_where_a_mode_counts_torchs_own():
    from torch.utils.flop_counter import FlopCounterMode

    net = sk.Sequential(nn.Linear(256, 256))
    with FlopCounterMode(display=False) as counter:
        net((torch.rand(20, 32, 256) < 0.05).float())
    assert counter.get_total_flops() == 2 * 640 * 256 * 256
