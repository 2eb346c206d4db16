from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit.errors import InputError
from spikekit.models import neuron_factory


def test_kinds_are_the_presets():
    assert repr(neuron_factory({"kind": "inflor_snn"})(3)) == repr(sk.presets.inflor_snn())
    ours, theirs = neuron_factory({"kind": "mpbn"})(3), sk.presets.mpbn(3)
    assert ours.rule == theirs.rule
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_plain_values_make_the_neuron():
    made = neuron_factory(
        {"beta": 0.5, "threshold": 0.3, "reset": "soft", "quantum": 0.7, "detach_reset": True, "mpbn": "positive"}
    )(4)
    wanted = sk.LIF(
        *(0.5, 0.3, "soft"),
        reset_quantum=0.7,
        detach_reset=True,
        surrogate=sk.surrogate.Rectangle(0.6),
        norm=sk.MPBN(4, positive=True),
    )
    assert repr(made) == repr(wanted)
    assert made is not neuron_factory({})(4)


def test_surrogates_are_named():
    assert neuron_factory({"surrogate": "ATan"})(1).rule.surrogate == sk.surrogate.ATan()
    made = neuron_factory({"surrogate": {"name": "Sigmoid", "alpha": 3.0}})(1)
    assert made.rule.surrogate == sk.surrogate.Sigmoid(3.0)
    assert neuron_factory({"mpr": 2.0})(1).rule.surrogate == sk.surrogate.SechBump(2.0, 1.0)


def test_a_factory_is_used_as_it_is():
    def factory(channels):
        return sk.LIF(norm=sk.MPBN(channels))

    assert neuron_factory(factory) is factory


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"treshold": 1}, "neuron: unknown key 'treshold'; did you mean 'threshold'"),
        ({"kind": "mpb"}, "neuron: kind: unknown value 'mpb'; did you mean 'mpbn'"),
        ({"beta": "a"}, "neuron: beta must be a number, got 'a'"),
        ({"beta": 2.0}, "beta"),
        ({"mpr": -1.0}, "MPR: sharpness"),
        ({"mpbn": "element"}, "neuron: mpbn: unknown value 'element'"),
        ({"surrogate": "Atan"}, "neuron: surrogate: name: unknown value 'Atan'; did you mean 'ATan'"),
        ({"surrogate": {"name": "ATan", "alfa": 2}}, "neuron: surrogate: unknown key 'alfa'; did you mean 'alpha'"),
        ({"surrogate": 3}, "neuron: surrogate: name"),
        ([1], "neuron: expected settings by name"),
    ],
)
def test_bad_descriptions_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        neuron_factory(given)
