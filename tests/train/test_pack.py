from __future__ import annotations

import json
import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from spikekit.errors import CheckpointError
from spikekit.train.pack import pack, unpack


def through_json(value):
    tensors = {}
    text = json.dumps(pack(value, tensors, "x"))
    return unpack(json.loads(text), {name: value.clone() for name, value in tensors.items()}), tensors


def test_plain_values_come_back_as_they_were():
    value = {0: [1, 0.1, None, True, "a"], "b": (1, (2.5,)), "tensor": {"tuple": []}, "e": {}, "i": math.inf}
    restored, tensors = through_json(value)
    assert restored == value
    assert isinstance(restored["b"][1], tuple)
    assert type(restored[0][3]) is bool
    assert not tensors


def test_tensors_are_named_by_their_place():
    restored, tensors = through_json({"state": {3: {"m": torch.ones(2)}}})
    assert list(tensors) == ["x.state.3.m"]
    assert torch.equal(restored["state"][3]["m"], torch.ones(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.AdamW(p),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.RMSprop(p),
        lambda p: torch.optim.Adagrad(p),
    ],
)
def test_optimizers_go_on_exactly(make):
    def training(steps, net, optimizer):
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer, second = make(net.parameters()), make(other.parameters())
    training(3, net, optimizer)
    other.load_state_dict(net.state_dict())
    second.load_state_dict(through_json(OrderedDict(optimizer.state_dict()))[0])
    training(3, net, optimizer)
    training(3, other, second)
    assert torch.equal(net.weight, other.weight)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, [lambda: 0], {(1, 2): 3}, 1j])
def test_anything_else_is_refused_by_its_place(value):
    with pytest.raises(CheckpointError, match=r"^x"):
        pack(value, {}, "x")
