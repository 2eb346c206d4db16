"""Wrong input: one error that names it and the way out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim import LBFGS, SGD

import spikekit as sk
from spikekit import continual as cl
from spikekit.errors import CheckpointError, InputError
from spikekit.learning import OTTT
from tests.continual.nets import BATCH, X, build, cross_entropy, learn


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
        (lambda: cl.HLOP(build("mlp"), None), "units must be a number, one a layer"),
        (lambda: cl.HLOP(build("mlp"), 2.5), "units must be a number, one a layer"),
        (lambda: cl.HLOP(build("mlp"), cl.ByVariance), "units must be a number, one a layer"),
        (lambda: cl.HLOP(build("mlp"), cl.Schedule(3, (2, (2, 2)))), "for task 3 are not one a layer"),
        (lambda: cl.HLOP(build("mlp"), 2, rows=True), "rows must be"),
        (lambda: cl.HLOP(build("mlp"), 2, seed="0"), "seed must be"),
        (lambda: cl.HLOP(build("mlp"), 2, hebbian={"lr": 1}), "hebbian a Hebbian"),
        (lambda: cl.HLOP(build("mlp"), 2, spiking=20), "spiking must be"),
        (lambda: cl.HLOP(sk.checkpoint_time(build("mlp")), 2, project="inputs"), "in checkpoint_time"),
        (lambda: cl.HLOP(sk.RecurrentLIF(3, 0.5), 2, layers="recurrent"), "are no weight layers"),
        (lambda: cl.GPM(build("mlp"), explained="0.9"), "in \\(0, 1\\)"),
        (lambda: cl.GPM(build("mlp"), samples=2.5), "samples must be"),
        (lambda: cl.GPM(build("mlp"), rows=0), "rows must be"),
        (lambda: cl.EWC(build("mlp"), samples=0), "samples must be"),
        (lambda: cl.EWC(build("mlp"), rule=OTTT(every_step=True)), "whole sequence"),
        (lambda: cl.EWC(build("mlp"), rule=OTTT), "whole sequence"),
        (lambda: cl.Batch(X, torch.arange(3)), r"x must be \[T, B, ...\] and y int64 \[B\]"),
        (lambda: cl.Batch(X, torch.zeros(4)), r"y int64 \[B\], got .* torch.float32"),
        (lambda: cl.Plain(sk.LIF(0.5)).parameters(), "nothing of the network learns"),
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


def test_tasks_begin_and_end_in_turn():
    plain = cl.Plain(build("mlp"))
    with pytest.raises(InputError, match="begin_task"):
        learn(plain, optimizer=SGD(plain.parameters(), lr=0.1))
    with pytest.raises(InputError, match="no task was begun"):
        plain.end_task()
    plain.begin_task()
    with pytest.raises(InputError, match="was not ended"):
        plain.begin_task()


@pytest.mark.parametrize("make", [partial(cl.GPM, explained=0.9), cl.EWC, cl.Replay])
def test_methods_that_look_at_a_task_once_more_say_so_when_they_cannot(make):
    method = make(build("mlp"))
    method.begin_task()
    learn(method)
    with pytest.raises(InputError, match="end_task needs batches"):
        method.end_task()


def test_a_state_of_another_method_or_network_is_refused():
    state = cl.HLOP(build("mlp"), 2).state_dict()
    for other in (cl.GPM(build("conv")), cl.Plain(build("mlp")), cl.EWC(build("mlp")), cl.HLOP(build("conv"), 2)):
        with pytest.raises(CheckpointError, match="another method or network"):
            other.load_state_dict(state)


STEPS = {
    "x is nothing": ({"x": None}, "must be a tensor, got NoneType"),
    "x has no axes": ({"x": torch.tensor(1.0)}, r"axes \[T, B, ...\]"),
    "loss is nothing": ({"loss": None}, "must be a function of the output, got NoneType"),
    "rule is a class": ({"rule": OTTT}, "give a rule such as"),
    "rule is a name": ({"rule": "ottt"}, "give a rule such as"),
    "optimizer is a name": ({"optimizer": "sgd"}, "got str"),
    "optimizer is a class": ({"optimizer": SGD}, "got SGD"),
    "optimizer runs the network": ({"optimizer": LBFGS(build("mlp").parameters())}, "runs the network by itself"),
    "optimizer of another network": ({"optimizer": SGD(build("mlp").parameters(), lr=0.1)}, "holds no parameter"),
}


@pytest.mark.parametrize(("given", "words"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("make", [cl.Plain, partial(cl.HLOP, units=2)], ids=["plain", "hlop"])
def test_what_cannot_take_a_step_is_refused(make, given, words):
    method = make(build("mlp"))
    method.begin_task()
    good = {"x": X, "loss": cross_entropy, "optimizer": SGD(method.parameters(), lr=0.1), "rule": None}
    with pytest.raises(InputError, match=words):
        method.step(**good | given)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_named_and_teach_the_units_nothing(value):
    hlop = cl.HLOP(build("mlp"), 2)
    hlop.begin_task()
    before = hlop.spaces["0"].rows.clone()
    x = X.clone()
    x[1, 2, 3] = value
    with pytest.raises(InputError, match="inputs of layer '0' are not finite"):
        learn(hlop, x=x)
    assert torch.equal(hlop.spaces["0"].rows, before)


def test_a_task_that_is_refused_leaves_no_units_behind():
    hlop = cl.HLOP(build("mlp"), cl.Schedule((2, 2, 40)))
    for _ in range(2):
        with pytest.raises(InputError, match="layer '4' would have 40"):
            hlop.begin_task()
    assert hlop.units == {"0": 0, "2": 0, "4": 0}
    assert hlop.task == 0


def test_the_rate_that_is_called_safe_is():
    hlop = cl.HLOP(build("mlp"), 3, lr={"0": 1.0})
    hlop.begin_task()
    with pytest.raises(InputError) as refused:
        learn(hlop, 30)
    rate = float(str(refused.value).split("a rate of ")[1].split(" is safe")[0])
    hlop = cl.HLOP(build("mlp"), 3, lr={"0": rate})
    hlop.begin_task()
    learn(hlop, 300)
    assert hlop.drift["0"] < 0.01


@pytest.mark.parametrize("make", [partial(cl.HLOP, units=2), cl.GPM])
def test_weights_that_are_not_a_layer_s_own_are_refused(make):
    tied = sk.Sequential(nn.Linear(12, 12), sk.LIF(0.5), nn.Linear(12, 12))
    tied[2].weight = tied[0].weight
    with pytest.raises(InputError, match=r"\['0', '2'\] share one weight"):
        make(tied, layers=["0"])
    normal, pruned = build("mlp"), build("mlp")
    nn.utils.parametrizations.weight_norm(normal[0])
    prune.random_unstructured(pruned[2], "weight", 0.5)
    for net, name in ((normal, "0"), (pruned, "2")):
        with pytest.raises(InputError, match=f"weight of layer '{name}' is computed from others"):
            make(net)


class Functional(nn.Module):
    """Uses the weight of a layer that it does not call."""

    def __init__(self):
        super().__init__()
        self.net, self.last = build("mlp")[:4], nn.Linear(32, 3, bias=False).double()

    def forward(self, x):
        return nn.functional.linear(self.net(x), self.last.weight)


def test_a_weight_that_learns_of_unknown_inputs_is_refused():
    hlop, gpm = cl.HLOP(Functional(), 2), cl.GPM(Functional())
    hlop.begin_task()
    with pytest.raises(InputError, match="weight of layer 'last' learns without a call"):
        learn(hlop)
    gpm.begin_task()
    learn(gpm)
    gpm.end_task([BATCH])
    gpm.begin_task()
    with pytest.raises(InputError, match="weight of layer 'last' learns without a call"):
        learn(gpm)
    left_out = cl.HLOP(Functional(), 2, layers=["net.0", "net.2"])
    left_out.begin_task()
    learn(left_out)


@pytest.mark.parametrize(("label", "allowed"), [(3, None), (-1, None), (2, [True, True, False]), (3, [True] * 3)])
def test_labels_that_cannot_be_told_are_refused(label, allowed):
    mask = None if allowed is None else torch.tensor([allowed] * 4)
    batch = cl.Batch(X, torch.tensor([0, 1, label, 0]), mask)
    with pytest.raises(InputError, match=f"of class {label}, which is none"):
        batch.loss(torch.zeros(3, 4, 3))
