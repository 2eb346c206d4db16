"""What still learns from the second task on, and what rests."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit import continual as cl
from spikekit.errors import InputError
from tests.continual.nets import X, build, learn, normed


def test_from_the_second_task_on_only_weights_learn_and_normalisation_rests():
    net = normed()
    hlop = cl.HLOP(net, 2)
    hlop.begin_task()
    assert len(hlop.parameters()) == len(list(net.parameters()))
    assert net[1].training
    learn(hlop)
    hlop.end_task()
    hlop.begin_task()
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["0.weight", "3.weight"]
    assert not net[1].training
    assert net.training
    frozen = {k: v.clone() for k, v in net.state_dict().items() if k not in ("0.weight", "3.weight")}
    learn(hlop, 3)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in frozen.items())


def test_normalisation_in_train_mode_is_refused_with_its_name_and_the_way_out():
    hlop = cl.HLOP(normed(), 2)
    hlop.begin_task()
    learn(hlop)
    hlop.end_task()
    hlop.begin_task()
    hlop.net.train()
    with pytest.raises(InputError, match=r"\['1'\] normalise by the batch.*method.train\(\)"):
        learn(hlop)
    hlop.train()
    learn(hlop)


def test_layers_left_out_learn_freely():
    net = build("mlp")
    hlop = cl.HLOP(net, 3, layers=["0", "2"], lr=1e-4)
    for _ in range(2):
        hlop.begin_task()
        learn(hlop)
        hlop.end_task()
    assert set(hlop.spaces) == {"0", "2"}
    assert net[4].weight.requires_grad
    assert not net[4].bias.requires_grad


def test_normalisation_rests_in_a_method_that_goes_on_from_a_file():
    hlop = cl.HLOP(normed(), 2)
    hlop.begin_task()
    hlop.end_task()
    hlop.begin_task()
    state, other = hlop.state_dict(), cl.HLOP(normed(), 2)
    other.net.train()
    other.load_state_dict(state)
    assert not other.net[1].training
    assert [name for name, p in other.net.named_parameters() if p.requires_grad] == ["0.weight", "3.weight"]


def test_a_network_that_learned_runs_and_exports_as_any_other():
    """Lateral units are beside the network: nothing of them is in it."""
    net = sk.Sequential(*build("mlp").float(), sk.LI(0.5))
    names, x = set(net.state_dict()), (X > 0).float()
    hlop = cl.HLOP(net, 2, lr=1e-4)
    for _ in range(2):
        hlop.begin_task()
        learn(hlop, x=x)
        hlop.end_task()
    assert set(net.state_dict()) == names
    chip = sk.export.to_loihi(net.eval(), calibration=x)
    assert chip.simulate(x).shape == (3, 4, 3)
    assert not any("forward" in vars(module) for module in net.modules())
