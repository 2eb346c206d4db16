"""Each method on its own: what it refuses, what it keeps, what it adds to a step."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

import spikekit as sk
from spikekit import continual as cl
from spikekit.errors import CheckpointError, InputError
from tests.continual.nets import build, cross_entropy, drive

X = drive("mlp", 1)
BATCH = cl.Batch(X, torch.tensor([0, 1, 2, 0]))


def learn(method, steps=1, optimizer=None, x=X):
    for _ in range(steps):
        method.step(x, cross_entropy, optimizer or SGD(method.parameters(), lr=0.1))


def normed():
    return sk.Sequential(
        nn.Linear(12, 20), nn.BatchNorm1d(20), sk.LIF(0.5, 1.0, learn=("threshold",)), nn.Linear(20, 3, bias=False)
    ).double()


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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cl.HLOP(nn.Sequential(nn.Conv1d(2, 3, 3)), 2), "no subspace"),
        (lambda: cl.HLOP(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2)), 2), "no subspace"),
        (lambda: cl.HLOP(sk.LIF(0.5), 2), "no layer to protect"),
        (lambda: cl.HLOP(build("mlp"), 2, layers=["7"]), r"\['7'\] are no weight layers"),
        (lambda: cl.HLOP(build("mlp"), "cifar"), "no preset"),
        (lambda: cl.HLOP(build("mlp"), (2, 3)), "not one a layer"),
        (lambda: cl.HLOP(build("mlp"), -1), "0 or more"),
        (lambda: cl.HLOP(build("mlp"), 2, project="weights"), "one of"),
        (lambda: cl.HLOP(build("mlp"), 2, lr={"9": 0.1}), r"lr names \['9'\]"),
        (lambda: cl.HLOP(build("mlp"), 2, lr=0.0), "lr must be"),
        (lambda: cl.HLOP(build("mlp"), 2, rows=0), "rows must be"),
        (lambda: cl.HLOP(build("mlp"), 2, share=0), "share must be"),
        (lambda: cl.HLOP(build("mlp"), 2, review=-1), "review must be"),
        (lambda: cl.HLOP("net", 2), "nn.Module"),
        (lambda: cl.ByVariance(1.5), "between 0 and 1"),
        (lambda: cl.Schedule(3, ()), "later is empty"),
        (lambda: cl.Hebbian(momentum=1.0), "momentum"),
        (lambda: cl.Hebbian(iterations=0), "iterations"),
        (lambda: cl.Spiking(scale=-1), "scale"),
        (lambda: cl.Spiking(steps=0), "steps"),
        (lambda: cl.GPM(build("mlp"), explained=1.0), "in \\(0, 1\\)"),
        (lambda: cl.EWC(build("mlp"), strength=0), "strength"),
        (lambda: cl.Replay(build("mlp"), capacity=0), "capacity"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_as_many_units_as_inputs_are_refused_and_nearly_as_many_warned_of():
    hlop = cl.HLOP(build("mlp"), cl.Schedule((12, 2, 2)))
    with pytest.raises(InputError, match=r"layer '0' would have 12 lateral units.*12 inputs"):
        hlop.begin_task()
    with pytest.warns(UserWarning, match=r"10 lateral units for 12 inputs a neuron, 83 %"):
        cl.HLOP(build("mlp"), cl.Schedule((10, 2, 2))).begin_task()


def test_drift_is_warned_of_with_its_figure():
    hlop = cl.HLOP(build("mlp"), 2, orthonormalise=False)
    hlop.begin_task()
    hlop.spaces["2"].rows *= 1.2
    assert hlop.drift["2"] == pytest.approx(0.44)
    with pytest.warns(UserWarning, match=r"of layer '2' is 0.44.*orthonormalise=True"):
        hlop.end_task()


def test_a_rate_that_is_too_large_is_refused_with_one_that_is_not():
    hlop = cl.HLOP(build("mlp"), 3, lr=1.0)
    hlop.begin_task()
    with pytest.raises(InputError, match=r"grow without bound.*is safe"):
        learn(hlop, 30)


def test_tasks_begin_and_end_in_turn():
    plain = cl.Plain(build("mlp"))
    with pytest.raises(InputError, match="begin_task"):
        learn(plain, optimizer=SGD(plain.parameters(), lr=0.1))
    with pytest.raises(InputError, match="no task was begun"):
        plain.end_task()
    plain.begin_task()
    with pytest.raises(InputError, match="was not ended"):
        plain.begin_task()


def test_units_follow_the_schedule_and_the_last_entry_counts_on():
    schedule = cl.PRESETS["pmnist"]
    layers = ["0", "2", "4"]
    assert schedule.units(1, layers) == {"0": 80, "2": 200, "4": 100}
    assert [schedule.units(task, layers)["2"] for task in range(2, 12)] == [70, 70, 50, 50, 50, 30, 30, 30, 10, 10]


def test_units_are_added_until_they_explain_enough_and_no_further():
    net = build("mlp")
    hlop = cl.HLOP(net, cl.ByVariance(0.9, step=2, patience=60, most=0.7), layers=["0"], lr=1e-3)
    hlop.begin_task()
    assert hlop.units == {"0": 2}
    learn(hlop, 300)
    # Four samples span four directions of twelve.
    assert hlop.explained["0"] > 0.9
    assert hlop.units["0"] <= 6
    found = hlop.units["0"]
    hlop.end_task()
    hlop.begin_task()
    learn(hlop, 130)
    # The same inputs again need none.
    assert hlop.units["0"] == found
    hlop.end_task()
    hlop.begin_task()
    learn(hlop, 150, x=torch.randn(3, 64, 12, dtype=torch.float64))
    assert found < hlop.units["0"] <= 8


@pytest.mark.parametrize("make", [partial(cl.GPM, explained=0.9), cl.EWC, cl.Replay])
def test_methods_that_look_at_a_task_once_more_say_so_when_they_cannot(make):
    method = make(build("mlp"))
    method.begin_task()
    learn(method)
    with pytest.raises(InputError, match="end_task needs batches"):
        method.end_task()


def test_gpm_keeps_as_few_rows_as_explain_enough():
    gpm = cl.GPM(build("mlp"), explained=0.8, layers=["0"])
    gpm.begin_task()
    gpm.end_task([BATCH])
    x = X[0]
    sizes = torch.linalg.svdvals(x).square()
    needed = int((sizes.cumsum(0) < 0.8 * sizes.sum()).sum()) + 1
    assert len(gpm.spaces["0"].rows) == needed
    gpm.begin_task()
    gpm.end_task([BATCH])
    assert len(gpm.spaces["0"].rows) == needed


def test_ewc_pulls_back_by_the_fisher_information():
    net = build("mlp")
    ewc = cl.EWC(net, strength=3.0)
    ewc.begin_task()
    ewc.end_task([BATCH])
    weight = net[0].weight
    expected = torch.zeros_like(weight)
    for index in range(4):
        one = BATCH.taken(torch.tensor([index]))
        expected += torch.autograd.grad(one.loss(net(one.x)), weight)[0].square() / 4
    ewc.begin_task()
    with torch.no_grad():
        weight += 0.01
    before = weight.detach().clone()
    optimizer = SGD(ewc.parameters(), lr=0.1)
    own = torch.autograd.grad(cross_entropy(net(X)), weight)[0]
    learn(ewc, optimizer=optimizer)
    torch.testing.assert_close(before - weight.detach(), 0.1 * (own + 3.0 * expected * 0.01), rtol=1e-9, atol=1e-12)


def test_a_pull_that_would_overshoot_brings_the_parameter_back_at_once():
    net = build("mlp")
    ewc = cl.EWC(net, strength=1e12)
    ewc.begin_task()
    ewc.end_task([BATCH])
    weight, kept = net[0].weight, net[0].weight.detach().clone()
    ewc.begin_task()
    with torch.no_grad():
        weight += 0.01
    own = torch.autograd.grad(cross_entropy(net(X)), weight)[0]
    learn(ewc)
    needed = ewc.state_dict()["fisher.0.weight"] > 1e-11
    assert needed.any()
    torch.testing.assert_close((weight + 0.1 * own)[needed], kept[needed])


def test_the_authors_rates_are_of_the_first_layer_and_of_the_others():
    hlop = cl.HLOP(build("mlp"), 2, lr="authors")
    assert {name: space.rule.lr for name, space in hlop.spaces.items()} == {"0": 0.001, "2": 0.01, "4": 0.01}
    assert not any(space.rule.relative for space in hlop.spaces.values())


def test_units_learn_from_their_share_of_the_calls():
    calls = []
    hlop = cl.HLOP(build("mlp"), 2, share=0.2, layers=["0"])
    hlop.begin_task()
    hlop.spaces["0"].learn = lambda x, left=None: calls.append(x)
    learn(hlop, 200)
    assert 25 < len(calls) < 55


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


def test_replay_mixes_old_samples_in_and_shares_its_memory():
    replay = cl.Replay(build("mlp"), capacity=6)
    for task in range(3):
        replay.begin_task()
        assert len(replay.mix(BATCH)) == (4 if task == 0 else 8)
        marked = cl.Batch(BATCH.x + 100 * task, BATCH.y)
        replay.end_task([marked, marked])
    state = replay.state_dict()
    assert state["tasks"].tolist() == [1, 1, 2, 2, 3, 3]
    assert state["x"].shape == (1, 6, 12)
    assert torch.equal(state["x"][0, 2:4], BATCH.x[0, :2] + 100)
    before = torch.get_rng_state()
    mixed = replay.mix(BATCH)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(mixed.x[:, :4], BATCH.x)
    replay.capacity = 3
    replay.begin_task()
    with pytest.raises(InputError, match="leaves no sample"):
        replay.end_task([BATCH])


def test_replayed_samples_are_told_from_later_classes_where_new_ones_are():
    first, both, other = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=torch.bool)
    for new, expected in ((both, both), (other, first)):
        replay = cl.Replay(build("mlp"))
        replay.begin_task()
        replay.end_task([cl.Batch(X, BATCH.y % 2, first.expand(4, 3))])
        mixed = replay.mix(cl.Batch(X, BATCH.y, new.expand(4, 3)))
        assert torch.equal(mixed.allowed[:4], new.expand(4, 3))
        assert torch.equal(mixed.allowed[4:], expected.expand(4, 3))


def test_a_state_of_another_method_or_network_is_refused():
    state = cl.HLOP(build("mlp"), 2).state_dict()
    for other in (cl.GPM(build("conv")), cl.Plain(build("mlp")), cl.EWC(build("mlp")), cl.HLOP(build("conv"), 2)):
        with pytest.raises(CheckpointError, match="another method or network"):
            other.load_state_dict(state)


def test_masked_classes_are_never_chosen_and_get_no_gradient():
    allowed = torch.tensor([[True, True, False]] * 4)
    output = torch.randn(3, 4, 3, requires_grad=True)
    with torch.no_grad():
        output[..., 2] += 50
    batch = cl.Batch(X, torch.tensor([0, 1, 1, 0]), allowed)
    batch.loss(output).backward()
    assert not output.grad[..., 2].any()
    assert output.grad[..., :2].any()
    assert batch.correct(output) == int((output.detach().mean(0)[:, :2].argmax(-1) == batch.y).sum())


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
