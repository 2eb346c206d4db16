"""sk.record: what happens inside a network, by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.state import active


class Shared(nn.Module):
    """One neuron, called twice in one forward."""

    def __init__(self):
        super().__init__()
        self.lif = sk.LIF(0.8, 0.5)

    def forward(self, x):
        return self.lif(2 * self.lif(x))


@pytest.fixture
def net():
    return sk.Sequential(nn.Linear(3, 4), sk.LIF(0.8, 0.3), nn.Linear(4, 2), sk.LI(0.5)).requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(8, 2, 3)


def test_a_neuron_called_twice_is_recorded_twice(x):
    net = Shared()
    y, recorded = sk.record(net, x, ["lif.spikes", "lif.drive"])
    assert set(recorded) == {"lif.spikes", "lif.drive", "lif#2.spikes", "lif#2.drive"}
    assert torch.equal(recorded["lif#2.spikes"], y)
    assert torch.equal(recorded["lif#2.drive"], 2 * recorded["lif.spikes"])
    assert torch.equal(recorded["lif.drive"], x)


def test_default_record_is_the_spikes_of_every_spiking_layer(x):
    net = sk.Sequential(sk.LIF(), sk.Sequential(nn.Linear(3, 2), sk.IF()), sk.LI())
    y, recorded = sk.record(net, x)
    assert {name: tuple(v.shape) for name, v in recorded.items()} == {
        "0.spikes": (8, 2, 3),
        "1.1.spikes": (8, 2, 2),
    }
    assert torch.equal(y, net(x))


def test_records_are_part_of_the_graph(x):
    net = sk.Sequential(nn.Linear(3, 4), sk.LIF())
    _, recorded = sk.record(net, x, ["1.membrane", "1.drive", "1.spikes"])
    for trace in recorded.values():
        (grad,) = torch.autograd.grad(trace.sum(), net[0].weight, retain_graph=True)
        assert grad.abs().sum() > 0


def test_records_are_the_same_with_and_without_gradients(net, x):
    names = ["1.membrane", "1.spikes", "3.membrane"]
    _, without = sk.record(net, x, names)
    _, with_grad = sk.record(net, x.clone().requires_grad_(), names)
    for name in names:
        assert torch.equal(without[name], with_grad[name])


def test_record_carries_on_from_a_state(net, x):
    _, state = sk.run(net, x[:3])
    _, whole = sk.record(net, x)
    _, rest = sk.record(net, x[3:], state=state)
    assert torch.equal(rest["1.spikes"], whole["1.spikes"][3:])


def test_membrane_is_before_the_reset(x):
    _, recorded = sk.record(sk.LIF(0.8, 0.3), x, ["membrane", "spikes"])
    assert torch.equal(recorded["spikes"], (recorded["membrane"] > 0.3).float())


@pytest.mark.parametrize("names", [["1.spike"], ["spikes"], ["3.spikes"], ["0.membrane"], "1.spike", [""]])
def test_unknown_records_are_refused_by_name(net, x, names):
    with pytest.raises(InputError, match=r"record: unknown name .*; this network offers \['1\.drive', '1\.mem"):
        sk.record(net, x, names)
    assert active() is None


def test_records_of_a_module_that_is_not_called_are_refused(x):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = sk.LIF(), sk.LIF()

        def forward(self, x):
            return self.used(x)

    with pytest.raises(InputError, match=r"record: \['idle\.spikes'\] belong to modules that .* did not call"):
        sk.record(Idle(), x, ["used.spikes", "idle.spikes"])
    assert set(sk.record(Idle(), x)[1]) == {"used.spikes"}


def test_one_name_needs_no_list():
    net = sk.Sequential(nn.Linear(3, 4), sk.LIF())
    x = torch.randn(5, 2, 3)
    assert torch.equal(
        sk.record(net, x, "1.membrane")[1]["1.membrane"], sk.record(net, x, ["1.membrane"])[1]["1.membrane"]
    )
