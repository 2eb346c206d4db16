"""OTTT: its gradients against the paper's equations written as a loop, and against backpropagation where they agree."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

import spikekit as sk
from spikekit.learning import BPTT, OTTT
from tests.learning.nets import BETAS, SURROGATE, THRESHOLD, conv, dense, drive, exactly, lif


def by_hand(net, x, target, decays, of_bias=False):
    """The equations for Linear, LIF, Linear, LIF, Linear and, if the last decay is not 0, LI."""
    (w1, b1), (w2, b2), (w3, b3) = ((net[i].weight.detach(), net[i].bias.detach()) for i in (0, 2, 4))
    l1, l2, l3 = decays
    v1 = v2 = v3 = a0 = a1 = a2 = 0.0
    n1 = n2 = n3 = 0.0
    found = {f"{i}.{what}": 0.0 for i in (0, 2, 4) for what in ("weight", "bias")}
    steps, batch = x.shape[:2]
    for x_t in x:
        u1 = l1 * v1 + x_t @ w1.T + b1
        s1 = (u1 > THRESHOLD).double()
        v1 = u1 - THRESHOLD * s1
        u2 = l2 * v2 + s1 @ w2.T + b2
        s2 = (u2 > THRESHOLD).double()
        v2 = u2 - THRESHOLD * s2
        v3 = l3 * v3 + s2 @ w3.T + b3
        a0, a1, a2 = l1 * a0 + x_t, l2 * a1 + s1, l3 * a2 + s2
        n1, n2, n3 = l1 * n1 + 1, l2 * n2 + 1, l3 * n3 + 1
        d3 = (v3.softmax(-1) - functional.one_hot(target, 3)) / (batch * steps)
        d2 = d3 @ w3 * SURROGATE.derivative(u2 - THRESHOLD)
        d1 = d2 @ w2 * SURROGATE.derivative(u1 - THRESHOLD)
        for i, d, a, n in ((0, d1, a0, n1), (2, d2, a1, n2), (4, d3, a2, n3)):
            found[f"{i}.weight"] = found[f"{i}.weight"] + d.T @ a
            found[f"{i}.bias"] = found[f"{i}.bias"] + d.sum(0) * (n if of_bias else 1)
    return found


@pytest.mark.parametrize("of_bias", [False, True])
def test_linear_layers_follow_the_equations(gradients, same, loss, target, of_bias):
    net, x = dense(), drive(7, 4, 6)
    result, found = gradients(OTTT(trace_bias=of_bias), net, x, loss)
    same(found, by_hand(net, x, target, BETAS, of_bias))
    torch.testing.assert_close(result.loss, loss(net(x)).detach())


def test_a_readout_without_neurons_has_no_trace(gradients, same, loss, target):
    net, x = dense(readout=False), drive(7, 4, 6)
    _, found = gradients(OTTT(), net, x, loss)
    same(found, by_hand(net, x, target, (*BETAS[:2], 0.0)))


def patches(x, layer):
    return functional.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)


def test_convolutions_follow_the_equations(gradients, same, loss, target):
    net, x = conv(), drive(5, 4, 2, 8, 8)
    _, found = gradients(OTTT(), net, x, loss)
    c1, c2, out = net[0], net[3], net[6]
    expected = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    v1 = v2 = a0 = a1 = 0.0
    with torch.no_grad():
        for x_t in x:
            u1 = BETAS[0] * v1 + c1(x_t)
            s1 = (u1 > THRESHOLD).double()
            v1 = u1 - THRESHOLD * s1
            pooled = functional.avg_pool2d(s1, 2)
            u2 = BETAS[1] * v2 + c2(pooled)
            s2 = (u2 > THRESHOLD).double()
            v2 = u2 - THRESHOLD * s2
            a0, a1 = BETAS[0] * a0 + x_t, BETAS[1] * a1 + pooled
            d3 = (out(s2.flatten(1)).softmax(-1) - functional.one_hot(target, 3)) / (4 * 5)
            d2 = (d3 @ out.weight).view_as(u2) * SURROGATE.derivative(u2 - THRESHOLD)
            # Back through the convolution, whose patches do not overlap, and through the pooling.
            down = functional.conv_transpose2d(d2, c2.weight, stride=2)
            d1 = down.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4 * SURROGATE.derivative(u1 - THRESHOLD)
            for name, layer, d, a in (("0", c1, d1, a0), ("3", c2, d2, a1)):
                product = torch.einsum("bol,bpl->op", d.flatten(2), patches(a, layer))
                expected[f"{name}.weight"] += product.view_as(layer.weight)
                expected[f"{name}.bias"] += d.sum((0, 2, 3))
            expected["6.weight"] += d3.T @ s2.flatten(1)
            expected["6.bias"] += d3.sum(0)
    same(found, expected)


@pytest.mark.parametrize("make", [dense, conv])
def test_one_step_is_backpropagation(gradients, same, loss, make):
    net = make()
    x = drive(1, 4, *((6,) if make is dense else (2, 8, 8)))
    same(gradients(OTTT(), net, x, loss)[1], gradients(BPTT(), net, x, loss)[1])


@pytest.mark.parametrize("neuron", [lif(0.8), sk.LI(exactly(0.8)), sk.CUBALIF(0.6, 0.8, detach_reset=True)])
def test_a_single_layer_is_backpropagation(gradients, same, loss, neuron):
    net, x = sk.Sequential(nn.Linear(6, 3), neuron).double(), drive(9, 4, 6)
    same(gradients(OTTT(trace_bias=True), net, x, loss)[1], gradients(BPTT(), net, x, loss)[1])


def test_the_last_layer_is_backpropagation_and_those_below_are_not(gradients, same, loss):
    net, x = dense(), drive(7, 4, 6)
    ours, theirs = (gradients(rule, net, x, loss)[1] for rule in (OTTT(trace_bias=True), BPTT()))
    same(ours, theirs, ["4.weight", "4.bias"])
    with pytest.raises(AssertionError):
        same(ours, theirs, ["2.weight"])


def test_the_decay_may_be_given(gradients, same, loss, target):
    net, x = dense(readout=False), drive(7, 4, 6)
    own = gradients(OTTT(), net, x, loss)[1]
    same(gradients(OTTT(decay={"0": 0.5, "2": 0.7}), net, x, loss)[1], own)
    given = gradients(OTTT(decay=0.7), net, x, loss)[1]
    same(given, own, ["2.weight"])
    seen = []
    gradients(OTTT(decay=0.7), net, x, loss, listen=lambda name, layer, a: seen.append((name, a)))
    traces = [a for name, a in seen if name == "4"]
    _, spikes = sk.record(net, x, "3.spikes")
    expected = 0.0
    for t, s in enumerate(spikes["3.spikes"]):
        expected = 0.7 * expected + s
        torch.testing.assert_close(traces[t], expected.detach())


def test_the_input_may_go_without_a_trace(gradients, same, loss):
    net, x = dense(), drive(7, 4, 6)
    own, found = (gradients(rule, net, x, loss)[1] for rule in (OTTT(), OTTT(trace_input=False)))
    same(found, own, ["2.weight", "4.weight"])
    same(found, gradients(OTTT(decay={"0": 0.0}), net, x, loss)[1])


def test_the_parameters_are_updated_after_every_step_or_at_the_end(loss):
    x = drive(5, 4, 6)
    for every_step, times in ((False, 1), (True, 5)):
        net = dense()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        seen = []

        def update(net=net, optimizer=optimizer, seen=seen):
            optimizer.step()
            optimizer.zero_grad()
            seen.append(net[0].weight.detach().clone())

        OTTT(every_step=every_step)(net, x, loss, update=update)
        assert len(seen) == times
        assert all(not torch.equal(a, b) for a, b in pairwise(seen))


def test_updates_at_every_step_follow_the_equations(same, loss, target):
    """One layer, by hand: the trace goes on over updates, and each step sees the newest weights."""
    net, x = sk.Sequential(nn.Linear(6, 3, bias=False), sk.LI(exactly(0.8))).double(), drive(5, 4, 6)
    weight, v, a = net[0].weight.detach().clone(), 0.0, 0.0
    optimizer = torch.optim.SGD(net.parameters(), 0.5)

    def update():
        optimizer.step()
        optimizer.zero_grad()

    OTTT(every_step=True)(net, x, loss, update=update)
    for x_t in x:
        v, a = 0.8 * v + x_t @ weight.T, 0.8 * a + x_t
        error = (v.softmax(-1) - functional.one_hot(target, 3)) / 4
        weight = weight - 0.5 * error.T @ a / 5
    same({"w": net[0].weight.detach()}, {"w": weight})
