"""OTTT in networks of every form: branches, layers called twice, loops, parametrised weights, all convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

import spikekit as sk
from spikekit.learning import BPTT, OTTT
from tests.learning.nets import dense, drive, lif


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
