"""The running average of the weights: its formula, what is judged by it, and that a resumed run goes on with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikekit.errors import InputError
from spikekit.train import load_weights
from spikekit.train.averaging import Average


def test_the_average_is_the_formula():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, decay = Average(net, 0.8), 0.8
    wanted = {name: value.clone() for name, value in net.state_dict().items()}
    for n in range(1, 60):
        net(torch.randn(4, 3))
        with torch.no_grad():
            net[0].weight.add_(torch.randn(2, 3))
        average.update(net)
        d = 0.0 if n == 1 else min(decay, (1 + n) / (10 + n))
        for name, value in net.state_dict().items():
            old = wanted[name]
            wanted[name] = d * old + (1 - d) * value if value.is_floating_point() else value.clone()
    for name, value in average.net.state_dict().items():
        assert torch.allclose(value, wanted[name], atol=1e-5), name
    assert not torch.equal(average.net[0].weight, net[0].weight)


def test_the_average_is_judged_and_saved_as_best(toy, tmp_path):
    run = toy.trainer(toy.network(), tmp_path, ema=0.9)
    test = toy.loader(shuffle=False, augment=False)
    history = run.fit(toy.loader(), test, epochs=2)
    assert run.evaluate(test).loss == pytest.approx(history[-1].val.loss)
    plain = toy.trainer(run.net).evaluate(test).loss
    assert plain != history[-1].val.loss
    best = toy.network()
    load_weights(best, tmp_path / "best.safetensors")
    losses = [epoch.val.loss for epoch in history]
    assert min(abs(toy.trainer(best).evaluate(test).loss - loss) for loss in losses) < 1e-6


def test_a_resumed_run_has_the_same_average(toy, tmp_path):
    whole = toy.trainer(toy.network(), tmp_path / "whole", ema=0.9)
    whole.fit(toy.loader(), epochs=3)
    parts = toy.trainer(toy.network(), tmp_path / "parts", ema=0.9, schedule=None)
    straight = toy.trainer(toy.network(), tmp_path / "straight", ema=0.9, schedule=None)
    straight.fit(toy.loader(), epochs=3)
    parts.fit(toy.loader(), epochs=1)
    again = toy.trainer(toy.network(seed=5), tmp_path / "parts", ema=0.9, schedule=None)
    again.fit(toy.loader(), epochs=3)
    for name, value in straight.averaged.state_dict().items():
        assert torch.equal(value, again.averaged.state_dict()[name]), name
    # A finished run is only loaded.
    loaded = toy.trainer(toy.network(seed=6), tmp_path / "whole", ema=0.9)
    loaded.fit(toy.loader(), epochs=3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.averaged.state_dict().values(), loaded.averaged.state_dict().values(), strict=True)
    )


def test_decay_is_between_0_and_1(toy):
    with pytest.raises(InputError, match="ema must be between 0 and 1"):
        toy.trainer(toy.network(), ema=1.0)
