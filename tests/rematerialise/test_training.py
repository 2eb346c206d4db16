"""checkpoint_time in the Trainer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from tests.rematerialise.nets import T, chain


class Samples(torch.utils.data.Dataset):
    """Samples [T, 6] whose class is the feature that is on most."""

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.y = torch.randint(3, (24,), generator=generator)
        self.x = torch.rand(24, T, 6, generator=generator) + 2 * nn.functional.one_hot(self.y, 6)[:, None]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def time_first(samples):
    x, y = zip(*samples, strict=True)
    return torch.stack(x, 1), torch.stack(y)


def test_the_trainer_trains_it_as_it_trains_the_network():
    """Same weights, losses and counts of spikes: what is computed again is not counted again."""
    loader = torch.utils.data.DataLoader(Samples(), 8, shuffle=True, collate_fn=time_first)
    options = {"accelerator": "cpu", "progress": False, "tensorboard": False, "lr": 0.01}
    torch.manual_seed(0)
    plain = chain()
    wrapped = sk.checkpoint_time(copy.deepcopy(plain), 4)
    histories = [sk.Trainer(net, **options).fit(loader, loader, epochs=3) for net in (plain, wrapped)]
    for (name, value), wanted in zip(wrapped.module.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, msg=name)
    for found, wanted in zip(*(history for history in reversed(histories)), strict=True):
        for metrics, other in ((found.train, wanted.train), (found.val, wanted.val)):
            assert metrics.loss == pytest.approx(other.loss, rel=1e-5)
            assert [(a.spikes, a.neuron_steps) for a in metrics.layers] == [
                (a.spikes, a.neuron_steps) for a in other.layers
            ]
    assert histories[1][-1].train.loss < histories[1][0].train.loss
