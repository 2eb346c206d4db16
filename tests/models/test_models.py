from __future__ import annotations

import pytest
import torch

from spikekit.errors import InputError
from spikekit.models import MODELS, build, convnet, event_conv
from spikekit.train import CrossEntropy

SMALL = {
    "convnet": {"in_shape": (2, 16, 12), "channels": (3, 4), "hidden": 5},
    "event_conv": {"in_shape": (2, 16, 12), "channels": (3, 4), "hidden": 5},
    "mlp": {"features": 2 * 16 * 12, "hidden": (5,)},
    "resnet19": {"in_channels": 2, "width": 1 / 32},
    "resnet20": {"in_channels": 2, "width": 1 / 16},
    "vgg16": {"in_channels": 2, "width": 1 / 16},
}


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("shape", [(2, 34, 34), (2, 33, 20), (1, 8, 9)])
@pytest.mark.parametrize("model", [event_conv, convnet])
def test_small_networks_take_any_frame_size(model, shape):
    assert model(shape)(torch.rand(3, 2, *shape)).shape == (3, 2, 10)


def test_parameter_counts():
    # 2·16·25 + 16·32·9 weights, 2592·128 + 128·10 + 10 dense, two for each of 16 + 32 + 128 normalised channels.
    assert count(build("event_conv")) == 800 + 4608 + 331_776 + 1290 + 2 * 176
    assert count(build("mlp", {"features": 20, "hidden": [5, 6], "classes": 3})) == 105 + 36 + 21
    # 1·32·9 + 32·64·9 weights, 64·7·7·128 + 128·10 + 10 dense, norms of 32 + 64 + 128 channels.
    assert count(build("convnet")) == 288 + 18_432 + 401_408 + 1290 + 2 * 224
    assert count(build("convnet", {"neuron": {"mpbn": True}})) == count(build("convnet")) + 2 * 224


@pytest.mark.parametrize("name", MODELS)
def test_every_model_builds_from_plain_values_and_trains(name):
    side = 32 if name == "vgg16" else None
    net = build(name, SMALL[name])
    x = torch.rand(3, 4, 2, side or 16, side or 12)
    y = net(x)
    assert y.shape == (3, 4, 10)
    CrossEntropy()(y, torch.arange(4)).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_convnet_of_spikes_exports():
    export = pytest.importorskip("spikekit.export")
    net = build("convnet", SMALL["convnet"] | {"neuron": {"threshold": 0.2, "beta": 0.5}})
    x = (torch.rand(4, 6, 2, 16, 12) < 0.3).float()
    net(x)
    chip = export.to_loihi(net.eval(), x)
    assert [layer.fires for layer in chip.layers] == [True, True, True, False]


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(InputError, match=r"unknown model 'resnet'.*event_conv"):
        build("resnet")
    with pytest.raises(InputError, match=r"'mlp'.*width"):
        build("mlp", {"width": 3})
    with pytest.raises(InputError, match="as many"):
        convnet(channels=(3,), strides=(1, 2))
