"""Feedback alignment and sign symmetry: only the gradient to the layer below changes, under every rule."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

import spikekit as sk
from spikekit.learning import BPTT, DSR, OTTT, feedback_alignment, sign_symmetry, weight_transport

RULES = [BPTT(), OTTT(), DSR()]


def lif():
    return sk.LIF(0.9, 0.2, surrogate=sk.surrogate.Sigmoid(4.0))


def dense():
    return sk.Sequential(nn.Linear(6, 8), lif(), nn.Linear(8, 7), lif(), nn.Linear(7, 3)).double()


def drive(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2


def signs(layer):
    return layer.weight.detach().sign() / math.sqrt(layer.weight[0].numel())


@pytest.mark.parametrize("change", [feedback_alignment, sign_symmetry])
def test_a_linear_layer_by_hand(change):
    layer, x, error = nn.Linear(5, 4).double(), drive(3, 2, 5).requires_grad_(), drive(3, 2, 4)
    change(layer)
    layer(x).backward(error)
    matrix = layer.feedback if change is feedback_alignment else signs(layer)
    torch.testing.assert_close(x.grad, error @ matrix)
    torch.testing.assert_close(layer.weight.grad, torch.einsum("tbo,tbi->oi", error, x.detach()))
    torch.testing.assert_close(layer.bias.grad, error.sum((0, 1)))


@pytest.mark.parametrize("change", [feedback_alignment, sign_symmetry])
@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"padding": 1, "padding_mode": "circular"}])
def test_a_convolution_by_hand(change, settings):
    layer, x = nn.Conv2d(2, 4, 3, **settings).double(), drive(3, 2, 6, 6).requires_grad_()
    change(layer)
    y = layer(x)
    error = torch.randn_like(y)
    y.backward(error)
    matrix = layer.feedback if change is feedback_alignment else signs(layer)
    # Dense, entry by entry: column i is what the matrix makes of the i-th unit image.
    units = torch.eye(2 * 6 * 6, dtype=torch.float64).view(-1, 2, 6, 6)
    if "padding_mode" in settings:
        columns = functional.conv2d(functional.pad(units, (1, 1, 1, 1), mode="circular"), matrix)
    else:
        columns = functional.conv2d(units, matrix, **settings)
    torch.testing.assert_close(x.grad, (error.flatten(1) @ columns.flatten(1).T).view_as(x))
    plain = copy.deepcopy(layer)
    weight_transport(plain).zero_grad()
    plain(x).backward(error)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("change", [feedback_alignment, sign_symmetry])
def test_it_goes_with_every_rule(gradients, same, loss, rule, change):
    """Where the feedback equals the weights, all gradients are those of the rule alone."""
    net, x = dense(), drive(8, 4, 6)
    plain, _ = gradients(rule, net, x, loss)
    expected = gradients(rule, net, x, loss)[1]
    change(net)
    result, found = gradients(rule, net, x, loss)
    assert torch.equal(result.output, plain.output)
    same(found, expected, ["4.weight", "4.bias"])
    assert not torch.allclose(found["0.weight"], expected["0.weight"])
    assert not torch.allclose(found["2.weight"], expected["2.weight"])
    with torch.no_grad():
        for index in (2, 4):
            if change is feedback_alignment:
                net[index].feedback.copy_(net[index].weight)
            else:
                net[index].weight.copy_(signs(net[index]))
    found = gradients(rule, net, x, loss)[1]
    same(found, gradients(rule, weight_transport(net), x, loss)[1])


def test_ottt_by_hand_with_feedback(gradients, same, loss, target):
    net, x = feedback_alignment(dense()), drive(6, 4, 6)
    found = gradients(OTTT(), net, x, loss)[1]
    surrogate, beta, threshold = sk.surrogate.Sigmoid(4.0), net[1].beta.item(), net[1].threshold.item()
    w1, w2, w3 = net[0], net[2], net[4]
    v1 = v2 = a0 = a1 = 0.0
    expected = {f"{i}.weight": 0.0 for i in (0, 2, 4)}
    with torch.no_grad():
        for x_t in x:
            u1 = beta * v1 + functional.linear(x_t, w1.weight, w1.bias)
            s1 = (u1 > threshold).double()
            u2 = beta * v2 + functional.linear(s1, w2.weight, w2.bias)
            s2 = (u2 > threshold).double()
            v1, v2, a0, a1 = u1 - threshold * s1, u2 - threshold * s2, beta * a0 + x_t, beta * a1 + s1
            logits = functional.linear(s2, w3.weight, w3.bias)
            d3 = (logits.softmax(-1) - functional.one_hot(target, 3)) / (4 * 6)
            d2 = d3 @ w3.feedback * surrogate.derivative(u2 - threshold)
            d1 = d2 @ w2.feedback * surrogate.derivative(u1 - threshold)
            for name, d, a in (("0", d1, a0), ("2", d2, a1), ("4", d3, s2)):
                expected[f"{name}.weight"] = expected[f"{name}.weight"] + d.T @ a
    same(found, expected)


def test_it_is_saved_and_copied_and_moved_with_the_network():
    net = feedback_alignment(dense())
    state = net.state_dict()
    other = feedback_alignment(dense())
    other.load_state_dict(state)
    assert torch.equal(other[2].feedback, net[2].feedback)
    twin, x = copy.deepcopy(net).float(), drive(1, 8).float().requires_grad_()
    with torch.no_grad():
        twin[2].feedback.zero_()
    twin[2](x).sum().backward()
    assert twin[2].feedback.dtype == torch.float32
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert net[2].feedback.abs().min() > 0
    assert set(weight_transport(net).state_dict()) == set(dense().state_dict())
    assert all("forward" not in vars(module) for module in net.modules())


def test_layers_may_be_chosen_and_one_replaces_the_other():
    net = feedback_alignment(dense(), ["2", "4"])
    assert [hasattr(net[i], "feedback") for i in (0, 2, 4)] == [False, True, True]
    sign_symmetry(net, "2", scale=0.5)
    x = drive(1, 8).requires_grad_()
    net[2](x).backward(torch.ones(1, 7, dtype=torch.float64))
    torch.testing.assert_close(x.grad, 0.5 * net[2].weight.detach().sign().sum(0, keepdim=True))
    assert not hasattr(net[2], "feedback")


def test_a_parametrised_weight_has_feedback_too():
    layer = weight_norm(nn.Linear(5, 4)).double()
    feedback_alignment(layer)
    x = drive(3, 5).requires_grad_()
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.feedback.sum(0).expand(3, 5))
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("change", [feedback_alignment, sign_symmetry, weight_transport])
def test_what_cannot_be_changed_is_refused(change):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    refused = sk.errors.InputError
    with pytest.raises(refused, match=r"\['1'\] are no weight layers; this network has \['0', '2', '4'\]"):
        change(dense(), ["1"])
    with pytest.raises(refused, match=r"layer '0' .Doubled. has a forward of its own"):
        change(nn.Sequential(Doubled(3, 3)))
    with pytest.raises(refused, match=r"no nn\.Linear or convolution"):
        change(lif())
    with pytest.raises(refused, match=r"net must be an nn\.Module"):
        change("net")
    with pytest.raises(refused, match="scale must be a number greater than 0"):
        sign_symmetry(dense(), scale=-1.0)
