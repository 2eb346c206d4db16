"""`sk.MPBN` in every precision, under autocast and torch.compile, in train and in eval mode, with every reset."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk

RESETS = ["soft", "hard", "none"]
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def conv(reset="hard", **settings):
    return sk.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        sk.LIF(0.25, 0.5, reset, norm=sk.MPBN(6, **settings)),
        nn.Flatten(),
        nn.Linear(6 * 16, 3),
        sk.LIF(0.5, reset=reset, norm=sk.MPBN(3)),
        sk.LI(),
    )


def clip(steps=6, batch=5):
    return torch.randn(steps, batch, 2, 4, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_integrates_and_measures_in_float32(dtype):
    lif = sk.LIF(norm=sk.MPBN(3)).to(dtype)
    assert {value.dtype for value in lif.state_dict().values()} == {torch.float32, torch.int64}
    x = torch.randn(4, 5, 3).to(dtype)
    twin = copy.deepcopy(lif)
    spikes, seen = sk.record(lif, x, ["membrane", "norm.decision"])
    assert (spikes.dtype, seen["membrane"].dtype, seen["norm.decision"].dtype) == (dtype, torch.float32, torch.float32)
    assert torch.equal(spikes.float(), twin(x.float()))


@modes
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype, reset, training):
    """Drives come in half precision; what is integrated, measured and learned is float32, and the same as without."""
    net = sk.Sequential(nn.Linear(4, 3), sk.LIF(0.8, 0.4, reset, norm=sk.MPBN(3, positive=True))).train(training)
    twin, x = copy.deepcopy(net[1]), torch.randn(6, 8, 4)
    with torch.autocast("cpu", dtype):
        drive = net[0](x).detach().requires_grad_()
        y = net[1](drive)
    assert (drive.dtype, y.dtype) == (dtype, dtype)
    assert torch.equal(y, twin(drive))
    assert 0 < y.float().mean() < 1
    y.float().square().sum().backward()
    wanted = torch.autograd.grad(twin(drive).float().square().sum(), [drive, *twin.parameters()])
    for parameter, grad in zip([drive, *net[1].parameters()], wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert {p.grad.dtype for p in net[1].parameters()} == {torch.float32}
    assert {value.dtype for value in net[1].norm.buffers()} == {torch.float32, torch.int64}


@modes
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_with_a_scaled_loss(dtype, training):
    """What a GradScaler does: a loss 2^10 times as large, gradients divided again."""
    net, x = conv().train(training), clip()
    twin = copy.deepcopy(net)
    for one, scale in ((net, 1), (twin, 1024)):
        with torch.autocast("cpu", dtype):
            y = one(x)
        (y.float().sum() * scale).backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q.grad / 1024, p.grad, rtol=1e-2, atol=1e-3 * p.grad.abs().max().item(), msg=name)


def test_float64():
    lif = sk.LIF(norm=sk.MPBN(3)).double()
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    lif(x)
    assert {value.dtype for value in lif.norm.parameters()} == {torch.float64}
    # A module of float32 takes a drive of float64 too, as any neuron does.
    single = sk.LIF(norm=sk.MPBN(3))
    single(x)
    torch.testing.assert_close(single.norm.running_mean.double(), lif.norm.running_mean, rtol=1e-6, atol=1e-7)


@modes
@pytest.mark.parametrize("reset", RESETS)
def test_compiled(reset, training):
    net = conv(reset).train(training)
    compiled, x = copy.deepcopy(net), clip()
    torch._dynamo.reset()
    compiled.compile(fullgraph=True, backend="aot_eager")
    for one in (net, compiled):
        for _ in range(2):
            one(x).square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for (name, a), b in zip(net.named_buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(b, a, msg=name)
    torch._dynamo.reset()


def test_inference_mode_then_training():
    net, x = conv(), clip()
    with torch.inference_mode():
        net(x)
        net.eval()(x)
    net.train()(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_vmap_and_grad_in_eval_mode():
    lif = sk.LIF(norm=sk.MPBN(3)).eval()
    x = torch.randn(6, 4, 3)
    mapped = torch.func.vmap(lambda one: lif(one.unsqueeze(1)).squeeze(1), in_dims=1, out_dims=1)(x)
    assert torch.equal(mapped, lif(x))
