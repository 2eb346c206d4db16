"""Functions and layers in a forward that is read: what they make of a signal, and what is refused, by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from tests.export.nets import frames


class Own(nn.Module):
    """A forward of the user's own; `layer` is what it may call."""

    def __init__(self, forward, layer=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(2, 2, 3, padding=1) if layer is None else layer
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def folded(forward, layer=None):
    """On images with time folded into the batch, between two layers of neurons."""
    return sk.Sequential(sk.LIF(0.5, 0.3), sk.fold_time(Own(forward, layer)), sk.LIF(0.9, 0.2)).eval()


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: torch.add(x, self.layer(x), alpha=-2),
        lambda self, x: 0.5 - self.layer(x),
        lambda self, x: self.layer(x).sub(x, alpha=0.25),
        lambda self, x: torch.sub(x, 0.125, alpha=2),
        lambda self, x: 2 * x / 4,
        lambda self, x: -x + 1,
        lambda self, x: torch.cat([x, self.layer(x)], -3),
        lambda self, x: torch.cat([x, self.layer(x)], 2),
        lambda self, x: x.mean((2, 3), keepdim=True),
        lambda self, x: x.mean((-1, -2)),
        lambda self, x: x.flatten(2),
        lambda self, x: torch.flatten(x, 1, 2),
        lambda self, x: F.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=False),
        lambda self, x: F.adaptive_avg_pool2d(x, (3, 2)),
        lambda self, x: F.interpolate(x, scale_factor=2.0, mode="nearest-exact"),
    ],
)
@torch.no_grad()
def test_a_function_is_what_torch_makes_of_it(forward):
    net, x = folded(forward).double(), frames()
    layers = plan(net, x).layers
    traces, y = run_plan(layers, x), net(x.double()).flatten(2)
    torch.testing.assert_close(traces[-1].spikes, y, rtol=0, atol=0)
    assert 0 < y.mean() < 1


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: x + float("nan"), "add: what it multiplies or adds holds NaN or Inf"),
        (lambda self, x: x * float("inf"), "mul: what it multiplies or adds holds NaN or Inf"),
        (lambda self, x: x + 10**400, r"add: these arguments cannot be read \(int too large"),
        (lambda self, x: x + True, "it adds a tensor of its own"),
        (lambda self, x: x * 1j, "only numbers can multiply"),
        (lambda self, x: x.mean((1, 2)), "only the mean over both axes of images"),
        (lambda self, x: x.flatten(1).mean(1), "only the mean over both axes of images"),
        (
            lambda self, x: torch.cat([x, F.avg_pool2d(x, 2)], 1),
            r"\(2, 4, 3\)\] cannot be joined",
        ),
        (lambda self, x: torch.cat([x, self.layer.weight], 1), "it uses a tensor of its own"),
        (lambda self, x: F.adaptive_avg_pool2d(x.flatten(2), 2), r"takes images \(C, H, W\)"),
        (lambda self, x: F.interpolate(x, scale_factor=2, mode="bilinear"), "use 'nearest'"),
        (lambda self, x: F.avg_pool2d(x, 9), r"avg_pool2d cannot take the shape \(2, 8, 7\)"),
        (lambda self, x: torch.div(x, 2, rounding_mode="floor"), "rounding_mode.*leave out"),
        (lambda self, x: nn.AvgPool2d(2)(x), r"calls a AvgPool2d that is no attribute of it; make it in __init__"),
    ],
)
def test_what_cannot_be_read_names_the_function(forward, message):
    with pytest.raises(ExportError, match=rf"layer 1 \(Own\).*{message}"):
        plan(folded(forward), frames())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(2, 2, 9), r"layer 1 \(Conv2d\) cannot take the shape \(2, 8, 7\): .*Kernel size"),
        (nn.AvgPool2d(9), r"layer 1 \(AvgPool2d\) cannot take the shape"),
        (nn.MaxPool2d(9), r"layer 1 \(MaxPool2d\) cannot take the shape \(2, 8, 7\)"),
        (nn.MaxPool2d(2, return_indices=True), r"layer 1 \(MaxPool2d\) gives .*return_indices=False"),
    ],
)
def test_layers_that_the_images_are_too_small_for(layer, message):
    with pytest.raises(ExportError, match=message):
        plan(sk.Sequential(sk.LIF(), layer, sk.LIF()).eval(), frames())


def test_a_folded_layer_that_is_made_on_the_way_is_refused():
    class Making(nn.Module):
        temporal = True

        def __init__(self):
            super().__init__()
            self.lif = sk.LIF()

        def forward(self, x):
            return self.lif(sk.fold_time(nn.AvgPool2d(2))(x))

    with pytest.raises(ExportError, match="calls a AvgPool2d that is no attribute"):
        plan(Making().eval(), frames())
