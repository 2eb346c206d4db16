"""checkpoint_time under autocast, torch.func and torch.compile."""

from __future__ import annotations

import torch
from torch import nn

import spikekit as sk
from tests.rematerialise.nets import chain, gradients, in_pieces


def test_under_autocast(x):
    net, x = chain(), x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = sk.checkpoint_time(net, 4)(x)
        expected = in_pieces(net, 4)(x)
    assert torch.equal(y, expected)
    grads = (torch.autograd.grad(out.sum(), [x, *net.parameters()]) for out in (y, expected))
    for grad, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=2**-7, atol=1e-2)


def test_under_torch_func(x):
    """With the parameters as arguments; and by torch.func.grad, which cannot compute again and need not."""
    net = chain().double()
    wrapped = sk.checkpoint_time(net, 4)
    others = {name: torch.randn_like(value).requires_grad_() for name, value in wrapped.named_parameters()}
    y = torch.func.functional_call(wrapped, others, (x,))
    grads = torch.autograd.grad(y.sum(), list(others.values()))
    plain = torch.func.functional_call(net, {name.removeprefix("module."): v for name, v in others.items()}, (x,))
    wanted = torch.autograd.grad(plain.sum(), list(others.values()))
    torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)
    grad = torch.func.grad(lambda x: wrapped(x).sum())(x.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(net(x).sum(), x)[0], rtol=1e-12, atol=1e-12)


def test_torch_compile_leaves_it_out(x):
    net = chain(nn.BatchNorm1d(6)).double()
    wrapped = sk.checkpoint_time(net, 4)
    torch.testing.assert_close(
        gradients(net, x, torch.compile(wrapped, backend="eager")), gradients(net, x, wrapped), rtol=0, atol=0
    )
