"""Astrocytes as a module: what they learn, keep, print and refuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError, StateError
from tests.neurons.astrocytes import drive, neuron


def test_all_parameters_learn_within_their_ranges():
    net = neuron()
    assert {name for name, _ in net.astrocyte.named_parameters()} == {
        f"{name}_raw" for name in ("timescales", "strength", "weight", "bias")
    }
    optimiser = torch.optim.SGD(net.astrocyte.parameters(), lr=1e3)
    for _ in range(5):
        net.zero_grad()
        net(drive()).mean().backward()
        assert all(p.grad.isfinite().all() for p in net.astrocyte.parameters())
        optimiser.step()
    assert (net.astrocyte.strength.abs() < 1).all()
    assert ((net.astrocyte.timescales >= 0.0999) & (net.astrocyte.timescales <= 1.001e6)).all()
    net(drive())
    with pytest.raises(InputError, match="strength is learned and cannot be assigned"):
        net.astrocyte.strength = torch.tensor(0.1)


def test_fixed_parameters_are_buffers():
    astrocyte = sk.Astrocyte(4, learn=())
    assert not list(astrocyte.parameters())
    assert set(astrocyte.state_dict()) == {"timescales", "strength", "weight", "bias"}
    assert astrocyte.strength.tolist() == [pytest.approx(0.1)] * 4
    assert sk.Astrocyte(4, learn="bias").weight.shape == (4, 3)


def test_halves_integrate_in_float32():
    net = neuron().to(torch.bfloat16)
    y, state = sk.run(net, drive().bfloat16())
    assert y.dtype == torch.bfloat16
    assert {value.dtype for value in state[""].values()} == {torch.float32}
    assert net.astrocyte.strength.dtype == torch.float32


def test_copies_and_checkpoints_keep_it():
    net, x = neuron(), drive()
    with torch.no_grad():
        net.astrocyte.weight_raw.add_(1.0)
    other = neuron()
    assert not torch.equal(other(x), net(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_repr_is_one_line():
    text = repr(sk.LIF(astrocyte=sk.Astrocyte(2, (5.0, 50.0), strength=torch.tensor([0.1, 0.2]))))
    assert text == (
        "LIF(beta=0.9, threshold=1, reset='soft', surrogate=ATan(alpha=2.0), astrocyte=Astrocyte(2, "
        "timescales=(5, 50), strength=0.1..0.2, weight=(1, 1), bias=0, acts_on='gain', senses='post', "
        "learn=('timescales', 'weight', 'bias', 'strength')))"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"domains": 0}, "domains must be a whole number of at least 1, got 0"),
        ({"acts_on": "weights"}, "unknown acts_on 'weights'; choose 'gain', 'threshold', 'plasticity'"),
        ({"senses": "all"}, "unknown senses 'all'"),
        ({"strength": 1.0}, "strength must be between -1 and 1, both excluded, got"),
        ({"timescales": (0.0,)}, "timescales must be between 0.1 and 1e6 steps, got"),
        ({"timescales": ()}, "timescales must be K numbers"),
        ({"weight": float("nan")}, "weight must be finite"),
        ({"weight": "1"}, "weight must be a number or a tensor"),
        ({"strength": torch.zeros(3)}, r"strength must be one number or of the shape \(8,\), got \(3,\)"),
        ({"learn": ("decay",)}, "cannot learn"),
        ({"acts_on": "plasticity", "learn": ("weight",)}, "no output depends on its parameters"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(InputError, match=message):
        sk.Astrocyte(**settings)


def test_bad_combinations():
    with pytest.raises(InputError, match="astrocyte must be an sk"):
        sk.LIF(astrocyte=8)
    with pytest.raises(InputError, match="norm and astrocyte cannot be combined"):
        sk.LIF(norm=sk.MPBN(8), astrocyte=sk.Astrocyte())
    with pytest.raises(InputError, match="needs a threshold that stays"):
        sk.LIF(rectifier=sk.MPR(), astrocyte=sk.Astrocyte(acts_on="threshold"))
    with pytest.raises(InputError, match="is a part of a neuron, not a layer"):
        sk.Astrocyte()(drive())
    for bad in (sk.LIF(), sk.LIF(astrocyte=sk.Astrocyte())):
        with pytest.raises(InputError, match="senses presynaptic spikes"):
            sk.TripartiteSynapse(nn.Linear(8, 8), bad)
    with pytest.raises(InputError, match="the layer must be a module without time"):
        sk.TripartiteSynapse(sk.LIF(), sk.LIF(astrocyte=sk.Astrocyte(senses="pre")))


def test_bad_input():
    with pytest.raises(InputError, match="must divide the channels"):
        neuron()(torch.randn(2, 3, 7))
    with pytest.raises(InputError, match="must divide the channels"):
        neuron()(torch.randn(2, 3))
    with pytest.raises(InputError, match="without an astrocyte nothing senses"):
        sk.LIF()(drive(), presynaptic=drive())
    with pytest.raises(InputError, match="it senses no presynaptic spikes"):
        neuron()(drive(), presynaptic=drive())
    with pytest.raises(InputError, match="it needs the presynaptic spikes"):
        neuron(senses="pre")(drive())
    with pytest.raises(InputError, match=r"presynaptic spikes must be \[T, B, C, ...\]"):
        neuron(senses="pre")(drive(), presynaptic=torch.zeros(20, 3, 7))
    with pytest.raises(InputError, match="holds nan"):
        neuron()(drive() * float("nan"))
    state = sk.run(neuron(), drive())[1]
    del state[""]["c"]
    with pytest.raises(StateError, match=r"must hold the tensors \['v', 'c'\]"):
        sk.run(neuron(), drive(), state)
    state = sk.run(neuron(), drive())[1]
    state[""]["c"] = state[""]["c"][..., :1]
    with pytest.raises(StateError, match=r"c has the shape \(3, 3, 1\), the drive needs \(3, 3, 2\)"):
        sk.run(neuron(), drive(), state)


def test_another_device_is_refused():
    with pytest.raises(InputError, match=r"presynaptic spikes are on meta, the drive on cpu; move them"):
        neuron(senses="pre")(drive(), presynaptic=drive().to("meta"))
    net = neuron()
    net.astrocyte.to("meta")
    with pytest.raises(InputError, match="its timescales is on meta, the drive on cpu"):
        net(drive())
    with pytest.raises(InputError, match="must be a tensor, got list"):
        neuron(senses="pre")(drive(), presynaptic=[1])


@pytest.mark.parametrize("name", ["acts_on", "senses", "domains", "scales", "rule"])
def test_settings_cannot_be_assigned(name):
    own = sk.Astrocyte(4)
    with pytest.raises(InputError, match=f"{name} cannot be assigned"):
        setattr(own, name, getattr(sk.Astrocyte(2, (5.0,), "threshold", "pre"), name))
    assert copy.deepcopy(own).acts_on == "gain"


def test_arguments_of_wrong_types():
    for given in (20.0, 5, None, "20", ("a",), (True,), ([1.0],), [None]):
        with pytest.raises(InputError, match="timescales must be K numbers"):
            sk.Astrocyte(timescales=given)
    for given in (5, True, ["speed"], [["bias"]]):
        with pytest.raises(InputError, match="cannot learn"):
            sk.Astrocyte(learn=given)
    for name in ("senses", "acts_on"):
        with pytest.raises(InputError, match=f"unknown {name}"):
            sk.Astrocyte(**{name: ["post"]})
    for shape, found in (((2, 3, 0), "no channels"), ((2, 3, 6, 0), "no pixels")):
        with pytest.raises(InputError, match=found):
            neuron()(torch.randn(shape))


def test_what_would_leave_it_out_refuses():
    net = sk.Sequential(nn.Linear(6, 6), sk.LIF(0.9, 0.6, astrocyte=sk.Astrocyte(3))).eval()
    with pytest.raises(InputError, match="cannot be folded"):
        sk.fold(net, threshold="common")
