"""Networks with a forward of their own, read as layers and the synapses between them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export import qat, to_loihi
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from spikekit.models import resnet20
from tests.export.nets import frames


def equal(net, x):
    """The plan's output is the network's in float64, and something fires; returns the layers."""
    net = net.double().eval()
    layers = plan(net, x).layers
    traces = run_plan(layers, x)
    with torch.no_grad():
        y = net(x.double()).flatten(2)
    found = traces[-1].spikes if layers[-1].fires else traces[-1].membranes
    torch.testing.assert_close(found, y, rtol=1e-9, atol=1e-9)
    assert all(trace.spikes.any() for trace, layer in zip(traces, layers, strict=True) if layer.fires)
    return layers


class Block(nn.Module):
    """What users write: layers in __init__, time folded in forward."""

    def __init__(self, reset="soft"):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        nn.init.uniform_(self.norm.running_var, 0.05, 0.2)
        self.lif1 = sk.LIF(0.8, 0.4, reset)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.lif2 = sk.LIF(0.7, 0.4, reset)
        self.head = sk.fold_time(nn.Sequential(nn.Flatten(), nn.Linear(224, 3)))
        self.out = sk.LI(0.9)

    def forward(self, x):
        a = self.lif1(sk.fold_time(self.norm)(sk.fold_time(self.conv1)(x)))
        b = self.lif2(0.5 * sk.fold_time(self.conv2)(a) - a / 4 + a * 0.75)
        return self.out(self.head(b + a))


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_a_module_of_the_users_own(reset):
    layers = equal(Block(reset), frames())
    assert [layer.name for layer in layers] == ["lif1", "lif2", "out"]
    assert [[each.source for each in layer.inputs] for layer in layers] == [[-1], [0, 0, 0], [1, 0]]


class Functions(nn.Module):
    """Everything that may stand in a forward on time folded into the batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.wide, self.narrow = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        small = F.avg_pool2d(x, 2, ceil_mode=True)
        grown = F.interpolate(small, size=(8, 7))
        joined = torch.cat([grown, x], dim=1)
        y = self.narrow(joined) + self.wide(x).contiguous()
        y = torch.sub(y, F.adaptive_avg_pool2d(y, (8, 7)), alpha=0.5)
        tall = torch.cat((y, -y), dim=-1)
        return torch.flatten(tall, 1).clone() + 0.1


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3)).add(0.05).mul(1.5)


def test_functions_in_a_forward():
    layers = equal(sk.Sequential(Functions(), sk.LIF(0.5, 0.3), nn.Linear(336, 4), sk.LI()), frames())
    assert [layer.shape for layer in layers] == [(336,), (4,)]
    equal(sk.Sequential(nn.Conv2d(2, 5, 3), sk.LIF(0.9, 0.2), Pooled(), sk.LIF(0.9, 0.2)), frames())


def test_a_constant_before_a_border_is_a_bias_a_neuron():
    """Batch normalisation in front of a padded convolution: its shift does not reach into the padding."""
    torch.manual_seed(0)
    net = sk.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), sk.LIF(0.8, 0.3))
    nn.init.normal_(net[0].bias)
    (layer,) = equal(net, frames())
    bias = layer.bias.reshape(3, 8, 7)
    assert (bias[:, 3, 3] != bias[:, 0, 0]).all()
    assert to_loihi(net.float(), frames()).layers[0].inputs[0].synapses.kind == "conv"


def test_neurons_without_synapses_of_their_own():
    layers = equal(sk.Sequential(sk.LIF(0.5, 0.8), sk.LIF(0.9, 0.8, "hard"), nn.Flatten(), sk.LI()), frames())
    assert [layer.inputs[0].synapses.count for layer in layers] == [112, 112, 112]


def test_max_pooling_of_spikes_is_a_layer_of_neurons():
    torch.manual_seed(0)
    net = sk.Sequential(nn.Conv2d(2, 3, 3), sk.LIF(0.8, 0.4), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(),
                        nn.Linear(27, 2), sk.LI())  # fmt: skip
    layers = equal(net, frames())
    assert [layer.name for layer in layers] == ["1", "2", "5"]
    assert set(layers[1].threshold) == {0.5}
    # It has nothing to learn.
    learner = qat(net.float(), frames())
    assert [any(p.requires_grad for p in layer.parameters()) for layer in learner.layers] == [True, False, True]


def test_a_neuron_used_twice_has_a_name_each_time():
    torch.manual_seed(0)
    block = sk.Sequential(nn.Linear(112, 112), sk.LIF(0.9, 0.2))
    layers = equal(sk.Sequential(nn.Flatten(), block, block), frames())
    assert [layer.name for layer in layers] == ["1.1", "2.1"]

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.lif = nn.Linear(112, 112), sk.LIF(0.9, 0.2)

        def forward(self, x):
            return self.lif(self.linear(self.lif(self.linear(x))))

    layers = equal(sk.Sequential(nn.Flatten(), Twice()), frames())
    assert [layer.name for layer in layers] == ["1.lif", "1.lif#2"]


def test_layers_that_the_output_does_not_need_are_left_out():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.flat = sk.fold_time(nn.Flatten())
            self.a, self.b = (
                sk.Sequential(nn.Linear(112, 5), sk.LIF(0.9, 0.2)),
                sk.Sequential(nn.Linear(5, 4), sk.LIF()),
            )
            self.c = sk.Sequential(nn.Linear(5, 3), sk.LI())

        def forward(self, x):
            a = self.a(self.flat(x))
            self.b(a)
            return self.c(a)

    assert [layer.name for layer in plan(Aside().eval(), frames()).layers] == ["a.1", "c.1"]


def refused(forward, message, *layers):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(112, 3), nn.Parameter(torch.ones(112))

    Own.forward = forward
    with pytest.raises(ExportError, match=message):
        plan(sk.Sequential(nn.Flatten(), Own(), sk.LIF()).eval(), frames())


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: self.layer(x) * self.layer(x), r"layer 1 \(Own\): mul: a product of activities"),
        (lambda self, x: x * self.scale, r"layer 1 \(Own\): scale: it uses a tensor of its own directly"),
        (lambda self, x: torch.relu(x), r"layer 1 \(Own\): relu: relu cannot be read"),
        (lambda self, x: x.sigmoid(), r"layer 1 \(Own\): sigmoid: sigmoid cannot be read"),
        (lambda self, x: x if x.sum() > 0 else -x, r"layer 1 \(Own\): its forward cannot be traced"),
        (lambda self, x: 1 / x, r"a quotient of activities"),
        (lambda self, x: x[:, :3] + self.layer(x), r"getitem cannot be read"),
        (lambda self, x: x + self.layer(x), r"it adds shapes \(112,\) and \(3,\)"),
        (lambda self, x: torch.cat([x, x], 0), r"axis 0 is time or batch"),
        (lambda self, x: (x, x), r"its forward gives tuple, not one tensor"),
        (lambda self, x: x.mean(1), r"only the mean over both axes of images"),
        (lambda self, x: F.avg_pool2d(x, 2), r"takes images \(C, H, W\)"),
        (lambda self, x: torch.flatten(x, 0), r"axis 0 is time or batch"),
        (lambda self, x: torch.add(x, x, out=None), r"these arguments cannot be read"),
    ],
)
def test_what_no_synapses_can_do_is_refused_by_name(forward, message):
    refused(forward, message)


def test_images_in_a_forward_need_fold_time():
    class Unfolded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lif = nn.Conv2d(2, 3, 3), sk.LIF()

        def forward(self, x):
            return self.lif(self.conv(x))

    with pytest.raises(ExportError, match=r"layer conv \(Conv2d\) sees the axes of time and batch.*sk.fold_time"):
        plan(Unfolded().eval(), frames())


def test_a_reduced_resnet20_is_equal_in_lava(worker):
    """Folded MPBN and batch normalisation, residual sums of drives, pooling: the paper's network, narrow."""
    torch.manual_seed(0)
    net = resnet20(2, 10, width=1 / 16, neuron={"kind": "mpbn"})
    x = (torch.rand(4, 6, 2, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(x)
    net = sk.Sequential(*net.eval(), sk.LI(0.9)).eval()
    chip = to_loihi(net, x)
    assert len(chip.layers) == 20
    assert sum(len(layer.inputs) > 1 for layer in chip.layers) == 8
    traces = chip.trace(x)
    assert all(trace.spikes.any() for trace, layer in zip(traces, chip.layers, strict=True) if layer.fires)
    for backend in ("lava-fixed", "lava-float"):
        proof = chip.verify(x[:, :2], backend, python=worker)
        assert proof.identical, str(proof)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_hook_inside_a_neuron_is_seen():
    net = sk.Sequential(nn.Flatten(), nn.Linear(112, 8), sk.RecurrentLIF(8, 0.9, 0.3)).eval()
    nn.utils.weight_norm(net[2].recurrent)
    with pytest.raises(ExportError, match=r"layer 2 \(RecurrentLIF\) has a forward hook"):
        plan(net, frames())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_refused_with_the_way_out():
    net = torch.compile(sk.Sequential(nn.Flatten(), nn.Linear(112, 8), sk.LIF()).eval())
    with pytest.raises(ExportError, match=r"export the network that torch\.compile was given"):
        plan(net, frames())


def test_a_division_by_zero_is_refused():
    refused(lambda self, x: self.layer(x) / 0, "it divides by 0")


@pytest.mark.parametrize(
    ("buffer", "value"), [("running_var", "inf"), ("running_var", "nan"), ("running_mean", "nan"), ("weight", "nan")]
)
def test_a_norm_that_is_not_finite_is_refused(buffer, value):
    norm = nn.BatchNorm2d(2).eval()
    with torch.no_grad():
        getattr(norm, buffer)[1] = float(value)
    with pytest.raises(ExportError, match=r"layer 1 \(BatchNorm2d\).*NaN or Inf"):
        plan(sk.Sequential(nn.Conv2d(2, 2, 3), norm, sk.LIF()).eval(), frames())
