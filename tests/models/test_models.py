from __future__ import annotations

import pytest
import torch

from spikekit.errors import InputError
from spikekit.models import MODELS, build, event_conv


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("shape", [(2, 34, 34), (2, 33, 20), (1, 8, 9)])
def test_event_conv_takes_any_frame_size(shape):
    assert event_conv(shape)(torch.rand(3, 2, *shape)).shape == (3, 2, 10)


def test_parameter_counts():
    # 2·16·25 + 16·32·9 weights, 2592·128 + 128·10 + 10 dense, two for each of 16 + 32 + 128 normalised channels.
    assert count(build("event_conv")) == 800 + 4608 + 331_776 + 1290 + 2 * 176
    assert count(build("mlp", {"features": 20, "hidden": [5, 6], "classes": 3})) == 105 + 36 + 21


def test_every_model_builds_from_plain_values_and_trains():
    for name in MODELS:
        net = build(name)
        net(torch.rand(3, 2, 2, 34, 34)).sum().backward()
        assert all(p.grad is not None for p in net.parameters())


def test_unknown_names_and_arguments_are_refused():
    with pytest.raises(InputError, match=r"unknown model 'resnet'.*event_conv"):
        build("resnet")
    with pytest.raises(InputError, match=r"'mlp'.*width"):
        build("mlp", {"width": 3})
