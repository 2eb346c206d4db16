"""torch.func and torch.export: vmap over the batch, gradients of each sample, forward mode, exported programs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk

RESETS = ["soft", "hard", "none"]


def network(reset, curve=None):
    net = sk.Sequential(
        nn.Linear(5, 6),
        sk.LIF(reset=reset, surrogate=curve, learn=("beta", "threshold")),
        nn.Linear(6, 5),
        sk.CUBALIF(0.6, 0.8, 0.3, reset, surrogate=curve, learn=("alpha", "beta", "threshold")),
        sk.RecurrentLIF(5, 0.8, 0.4, reset, surrogate=curve, learn=("beta", "threshold")),
        sk.ALIF(0.8, 0.2, reset, surrogate=curve, learn=("beta", "threshold", "rho", "step")),
        sk.RefractoryLIF(1, 0.8, 0.2, reset, surrogate=curve, learn=("beta", "threshold")),
        sk.SigmaDelta(0.2, bias=0.1, learn="bias"),
        nn.Linear(5, 3),
        sk.LI(learn="beta"),
    )
    return net.double()


@pytest.mark.parametrize("reset", RESETS)
def test_vmap_over_the_batch(reset):
    net = network(reset)
    x = torch.randn(7, 4, 5, dtype=torch.float64)
    mapped = torch.func.vmap(lambda one: net(one.unsqueeze(1)).squeeze(1), in_dims=1, out_dims=1)(x)
    torch.testing.assert_close(mapped, net(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("curve", [sk.surrogate.ATan(), sk.surrogate.Triangle(), sk.surrogate.SechBump()], ids=str)
def test_gradients_of_each_sample(reset, curve):
    net = network(reset, curve)
    x = torch.randn(7, 4, 5, dtype=torch.float64)
    parameters = dict(net.named_parameters())

    def loss(parameters, one):
        return torch.func.functional_call(net, parameters, one.unsqueeze(1)).square().sum()

    grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    for sample in range(x.shape[1]):
        expected = torch.autograd.grad(net(x[:, sample : sample + 1]).square().sum(), list(parameters.values()))
        for name, grad in zip(parameters, expected, strict=True):
            torch.testing.assert_close(grads[name][sample], grad, rtol=1e-9, atol=1e-12)


def test_vmap_over_networks():
    """An ensemble: the same sequence through many neurons that differ in beta."""
    x = torch.randn(7, 4, 5)
    betas = torch.tensor([0.2, 0.5, 0.9])
    lif = sk.LIF()
    spikes = torch.func.vmap(lambda beta: torch.func.functional_call(lif, {"beta": beta}, x))(betas)
    for beta, y in zip(betas, spikes, strict=True):
        assert torch.equal(y, sk.LIF(beta)(x))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own, in jvp
def test_forward_mode_agrees_with_reverse_mode():
    lif = sk.LIF(0.8)
    x, direction = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    _, tangent = torch.func.jvp(lif, (x,), (direction,))
    x.requires_grad_()
    (grad,) = torch.autograd.grad(lif(x).sum(), x)
    torch.testing.assert_close((grad * direction).sum(), tangent.sum())


def test_run_inside_vmap():
    net = network("soft")
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    whole = net(x)

    def pieces(one):
        first, state = sk.run(net, one[:2].unsqueeze(1))
        second, _ = sk.run(net, one[2:].unsqueeze(1), state)
        return torch.cat([first, second]).squeeze(1)

    mapped = torch.func.vmap(pieces, in_dims=1, out_dims=1)(x)
    torch.testing.assert_close(mapped, whole, rtol=1e-12, atol=1e-12)


def test_exported_program():
    net = sk.Sequential(nn.Linear(5, 6), sk.LIF(), sk.RecurrentLIF(6), nn.Linear(6, 3), sk.LI()).eval()
    x = torch.randn(6, 2, 5)
    program = torch.export.export(net, (x,))
    assert torch.equal(program.module()(x), net(x))
    targets = [str(node.target) for node in program.graph.nodes]
    assert sum("spikekit." in target for target in targets) == 3
