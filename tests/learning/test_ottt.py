"""OTTT: its gradients against the paper's equations written as a loop, and against backpropagation where they agree."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

import spikekit as sk
from spikekit.learning import BPTT, OTTT

SURROGATE = sk.surrogate.Sigmoid(4.0)
BETAS = (0.5, 0.7, 0.9)
THRESHOLD = 0.1


def exactly(number):
    return torch.tensor(number, dtype=torch.float64)


def lif(beta):
    return sk.LIF(exactly(beta), exactly(THRESHOLD), surrogate=SURROGATE, detach_reset=True)


def dense(readout=True):
    b1, b2, b3 = BETAS
    layers = [nn.Linear(6, 8), lif(b1), nn.Linear(8, 7), lif(b2), nn.Linear(7, 3)]
    return sk.Sequential(*layers, *([sk.LI(exactly(b3))] if readout else [])).double()


def conv():
    b1, b2, _ = BETAS
    front = [nn.Conv2d(2, 4, 3, padding=1), lif(b1), nn.AvgPool2d(2), nn.Conv2d(4, 3, 2, stride=2), lif(b2)]
    return sk.Sequential(*front, nn.Flatten(), nn.Linear(12, 3)).double()


def drive(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2


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


def test_a_decay_per_path_in_a_network_of_ones_own(gradients, same, loss):
    """Two branches meet in one neuron, the shortcut called first: the graph says which neuron is behind."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.shortcut, self.first, self.second = nn.Linear(6, 3), nn.Linear(6, 5), nn.Linear(5, 3)
            self.inner, self.outer = lif(0.3), lif(0.8)

        def forward(self, x):
            down = self.shortcut(x)
            return self.outer(down + self.second(self.inner(self.first(x))))

    net, x = Branches().double(), drive(6, 4, 6)
    own = gradients(OTTT(), net, x, loss)[1]
    same(own, gradients(OTTT(decay={"shortcut": 0.8, "first": 0.3, "second": 0.8}), net, x, loss)[1])
    same(own, gradients(BPTT(), net, x, loss)[1], ["shortcut.weight", "second.weight"])


def test_a_layer_called_twice_has_two_traces(gradients, same, loss):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.a, self.b = nn.Linear(3, 3), lif(0.5), lif(0.9)

        def forward(self, x):
            return self.b(self.fc(self.a(self.fc(x))))

    class Copied(Twice):
        def __init__(self, other):
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.load_state_dict(
                other.state_dict() | {f"first.{k}": v for k, v in other.fc.state_dict().items()}, strict=False
            )

        def forward(self, x):
            return self.b(self.fc(self.a(self.first(x))))

    net, x = Twice().double(), drive(6, 4, 3)
    apart = Copied(net).double()
    expected = gradients(OTTT(), apart, x, loss)[1]
    expected = {f"fc.{k}": expected[f"fc.{k}"] + expected[f"first.{k}"] for k in ("weight", "bias")}
    same(gradients(OTTT(), net, x, loss)[1], expected)


def test_gradients_reach_what_a_weight_is_made_of(gradients, same, loss):
    plain = sk.Sequential(nn.Linear(6, 3), lif(0.8)).double()
    net = sk.Sequential(weight_norm(nn.Linear(6, 3)), lif(0.8)).double()
    x = drive(6, 4, 6)
    rule = OTTT(trace_bias=True)
    found = gradients(rule, net, x, loss)[1]
    assert len(found) == 3
    same(found, gradients(BPTT(), net, x, loss)[1])
    assert "0.weight" in gradients(rule, plain, x, loss)[1]


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


def test_other_parameters_get_the_gradient_of_each_step_alone(gradients, same, loss):
    net = sk.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), lif(0.5)).double().eval()
    x, expected, state = drive(4, 4, 6), 0.0, None
    found = gradients(OTTT(), net, x, loss)[1]
    for x_t in x.split(1):
        y, state = sk.run(net, x_t, state)
        (loss(y) / 4).backward()
        state = sk.map_state(torch.Tensor.detach, state)
    expected = {name: p.grad for name, p in net.named_parameters() if name.startswith("1.")}
    same(found, expected)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("mode", ["circular", "reflect", "zeros"])
@pytest.mark.parametrize("padding", [1, "same"])
def test_convolutions_of_every_kind(gradients, same, loss, mode, padding):
    layer = nn.Conv2d(2, 4, (3, 2), padding=padding, padding_mode=mode, groups=2)
    net = sk.Sequential(layer, lif(0.8), nn.Flatten(), nn.Linear(4 * 6 * 5 if padding == "same" else 4 * 6 * 6, 3))
    net, x = net.double(), drive(1, 4, 2, 6, 5)
    same(gradients(OTTT(), net, x, loss)[1], gradients(BPTT(), net, x, loss)[1])


@pytest.mark.parametrize(("layer", "size"), [(nn.Conv1d(2, 3, 3), (7,)), (nn.Conv3d(2, 3, 2), (3, 4, 3))])
def test_convolutions_of_one_and_three_axes(gradients, same, target, layer, size):
    net, x = sk.Sequential(layer, sk.LI(0.7)).double(), drive(5, 4, 2, *size)
    weights = torch.randn(net(x).shape[1:], dtype=torch.float64)

    def loss(output):
        return (output * weights).square().sum() / len(output)

    same(gradients(OTTT(trace_bias=True), net, x, loss)[1], gradients(BPTT(), net, x, loss)[1])


def test_half_precision_keeps_its_traces_in_float32(loss):
    net = sk.Sequential(nn.Linear(6, 8), lif(0.9), nn.Linear(8, 3)).bfloat16()
    seen = []
    result = OTTT()(net, drive(5, 4, 6).bfloat16(), loss, listen=lambda name, layer, a: seen.append(a.dtype))
    assert torch.float32 in seen[2:]
    assert net[0].weight.grad.dtype == torch.bfloat16
    assert result.output.dtype == torch.bfloat16


def test_a_loop_of_ones_own_inside_the_network(gradients, same, loss):
    """A scan that carries nothing back is the network without it."""

    class Scanned(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = dense()

        def forward(self, x):
            return sk.scan(self, lambda carry, x_t: (carry, self.net(x_t)), x, x.new_zeros(x.shape[1], 1))[0]

    net, x = Scanned(), drive(6, 4, 6)
    expected = gradients(OTTT(), net.net, x, loss)[1]
    same(gradients(OTTT(), net, x, loss)[1], {f"net.{name}": g for name, g in expected.items()})


def test_a_layer_that_is_computed_again_is_refused(loss):
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.fc = sk.Sequential(nn.Linear(6, 5), lif(0.5)), nn.Linear(5, 3)

        def forward(self, x):
            return checkpoint(self.fc, self.net(x), use_reentrant=False)

    with pytest.raises(sk.errors.InputError, match=r"'fc' is computed again .* leave torch.utils.checkpoint out"):
        OTTT()(Again().double(), drive(6, 4, 6), loss)
