"""What lateral units learn, of what, and when."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from spikekit import continual as cl
from spikekit.continual import HLOP, Batch, Hebbian, Lateral, Spiking
from spikekit.continual.subspace import orthonormal
from spikekit.errors import InputError
from tests.continual.nets import build, cross_entropy, drive, learn


def test_lateral_units_learn_the_principal_subspace():
    generator = torch.Generator().manual_seed(3)
    basis = orthonormal(torch.randn(3, 12, generator=generator, dtype=torch.float64), torch.zeros(0, 12).double())
    net = build("mlp")
    hlop = HLOP(net, 3, layers=["0"])
    hlop.begin_task()
    for _ in range(300):
        codes = torch.randn(64, 3, generator=generator, dtype=torch.float64)
        hlop.spaces["0"].learn(codes @ basis)
    assert hlop.drift["0"] < 0.01
    assert hlop.explained["0"] > 0.999
    hlop.end_task()
    assert hlop.spaces["0"].outside(basis).abs().max() < 0.01


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("spiking", [None, Spiking(scale=4.0, steps=8)])
@pytest.mark.parametrize("kept", [0, 2])
def test_the_rows_change_by_the_paper_s_equation(count, spiking, kept):
    """Input by input, with momentum and clamp; fewer inputs than units and more, old units and none."""
    rule = Hebbian(momentum=0.6, iterations=3, clamp=0.05, lr=0.3, relative=False, spiking=spiking)
    space = Lateral("0", build("mlp")[0], rule, torch.Generator().manual_seed(1))
    space.grow(kept)
    space.keep()
    space.grow(4)
    x = torch.randn(count, 12, dtype=torch.float64) * (torch.rand(count, 12) < 0.4)
    answer = (lambda y: y) if spiking is None else spiking
    old, h, velocity = space.old.clone(), space.rows[kept:].clone(), torch.zeros(4, 12).double()
    error = [v - old.T @ answer(old @ v) - h.T @ answer(h @ v) for v in x]
    explained = 1 - sum(e @ e for e in error) / x.square().sum()
    clamped = False
    for _ in range(3):
        change = sum(torch.outer(answer(h @ v), v - old.T @ answer(old @ v) - h.T @ answer(h @ v)) for v in x) / count
        clamped |= bool((change.abs() > 0.05).any())
        velocity = 0.6 * velocity + 0.4 * change.clamp(-0.05, 0.05)
        h = h + 0.3 * velocity
    space.learn(x)
    assert clamped
    torch.testing.assert_close(space.rows[kept:], h, rtol=1e-12, atol=1e-13)
    assert torch.equal(space.old, old)
    assert space.explained == pytest.approx(float(explained), rel=1e-9)


def test_review_learns_from_the_finished_network_and_leaves_it_in_train_mode():
    old = drive("mlp", 1)
    batches = [Batch(old[:, :2], torch.arange(2)), Batch(old[:, 2:], torch.arange(2))]
    hlop, seen = HLOP(build("mlp"), 2, review=3), []
    hlop.begin_task()
    for name, space in hlop.spaces.items():
        space.learn = lambda x, left=None, name=name: seen.append((name, len(x), hlop.net.training))
    hlop.end_task(batches)
    assert [entry for entry in seen if entry[0] == "0"] == [("0", 6, False), ("0", 3, False)] * 2
    assert hlop.net.training
    hlop.begin_task()
    with pytest.raises(InputError, match="review needs batches"):
        hlop.end_task()


def test_spiking_units_answer_in_steps_and_are_projected_by_inputs():
    answer = Spiking(scale=20, steps=40)
    y = torch.tensor([-30.0, -0.3, 0.2, 0.25001, 7.4])
    assert answer(y).tolist() == [-20.0, -0.5, 0.0, 0.5, 7.5]
    hlop = HLOP(build("mlp"), 4, spiking=True)
    assert hlop.project == "inputs"
    with pytest.raises(InputError, match="spiking=False"):
        HLOP(build("mlp"), 4, spiking=True, project="gradient")


def test_what_is_explained_is_a_running_mean():
    space = Lateral("0", build("mlp")[0], Hebbian(), torch.Generator())
    space.grow(2)
    space.keep()
    x = torch.randn(5, 12, dtype=torch.float64)
    inside, outside = x @ space.rows.T @ space.rows, space.outside(x)
    space.learn(inside)
    assert space.explained == pytest.approx(1)
    space.learn(outside)
    assert space.explained == pytest.approx(0.95)


def test_signals_of_a_still_image_are_learned_from_once():
    seen = []
    net = build("mlp")
    hlop = HLOP(net, 2)
    hlop.begin_task()
    for name, space in hlop.spaces.items():
        space.learn = lambda x, left=None, name=name: seen.append((name, len(x)))
    hlop.step(drive("mlp", 1), cross_entropy, SGD(hlop.parameters(), lr=0.1))
    assert dict(seen)["0"] == 4
    assert dict(seen)["2"] == 12


def test_units_learn_from_their_share_of_the_calls():
    calls = []
    hlop = cl.HLOP(build("mlp"), 2, share=0.2, layers=["0"])
    hlop.begin_task()
    hlop.spaces["0"].learn = lambda x, left=None: calls.append(x)
    learn(hlop, 200)
    assert 25 < len(calls) < 55


def test_the_authors_rates_are_of_the_first_layer_and_of_the_others():
    hlop = cl.HLOP(build("mlp"), 2, lr="authors")
    assert {name: space.rule.lr for name, space in hlop.spaces.items()} == {"0": 0.001, "2": 0.01, "4": 0.01}
    assert not any(space.rule.relative for space in hlop.spaces.values())


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


def test_drift_is_warned_of_with_its_figure():
    hlop = cl.HLOP(build("mlp"), 2, orthonormalise=False, lr=1e-9)
    hlop.begin_task()
    learn(hlop)
    hlop.spaces["2"].rows *= 1.2
    assert hlop.drift["2"] == pytest.approx(0.44)
    with pytest.warns(UserWarning, match=r"of layer '2' is 0.44.*orthonormalise=True"):
        hlop.end_task()


def test_a_rate_that_is_too_large_is_refused_with_one_that_is_not():
    hlop = cl.HLOP(build("mlp"), 3, lr=1.0)
    hlop.begin_task()
    with pytest.raises(InputError, match=r"grow without bound.*is safe"):
        learn(hlop, 30)


def test_new_units_begin_orthonormal_and_beside_those_that_are_there():
    space = Lateral("0", build("mlp")[0], Hebbian(), torch.Generator())
    space.grow(4)
    # As learning leaves them: not quite orthonormal.
    space.rows[0] += 0.3 * space.rows[1]
    space.grow(5)
    assert (space.rows[4:] @ space.rows[:4].T).abs().max() < 1e-14
    assert (space.rows[4:] @ space.rows[4:].T - torch.eye(5).double()).abs().max() < 1e-14
