"""GPM, EWC and replay: what each keeps, and what it adds to a step."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from spikekit import continual as cl
from spikekit.errors import InputError
from tests.continual.nets import BATCH, X, build, cross_entropy, learn


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


def test_replay_holds_still_images_beside_frames():
    labels = BATCH.y
    still, moving = cl.Batch(X[:1].expand(3, -1, -1), labels), cl.Batch(torch.rand(3, 4, 12).double(), labels)
    for first, second in ((still, moving), (moving, still)):
        replay = cl.Replay(build("mlp"), capacity=8)
        for batch in (first, second):
            replay.begin_task()
            replay.end_task([batch])
        replay.begin_task()
        memory = replay.state_dict()["x"]
        assert torch.equal(memory[:, :4], first.x)
        assert torch.equal(memory[:, 4:], second.x)
        assert replay.mix(moving).x.shape == (3, 8, 12)
        with pytest.raises(InputError, match="samples of 3 and of 5 time steps"):
            replay.mix(cl.Batch(torch.rand(5, 4, 12).double(), labels))


def test_what_a_task_needed_is_added_to_what_earlier_ones_did():
    ewc = cl.EWC(build("mlp"))
    needed = []
    for _ in range(2):
        ewc.begin_task()
        ewc.end_task([BATCH])
        needed.append(ewc.state_dict()["fisher.0.weight"].clone())
    torch.testing.assert_close(needed[1], 2 * needed[0])


def test_gpm_leaves_one_direction_to_learn_in():
    gpm = cl.GPM(build("mlp"), explained=1 - 1e-12, layers=["0"])
    everywhere = cl.Batch(torch.randn(3, 30, 12, dtype=torch.float64), torch.arange(30) % 3)
    for _ in range(2):
        gpm.begin_task()
        gpm.end_task([everywhere])
        assert len(gpm.spaces["0"].rows) == 11
