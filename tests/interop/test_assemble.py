"""The chain that every import builds, without the peers: where gains go, what fits where, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.interop.assemble import Chain, axes_after
from spikekit.neurons import FoldedLIF


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def fired(chain, **changes):
    chain.fire("layer 1", **{"beta": scalar(0.5), "threshold": scalar(1.0), "reset": "soft"} | changes)
    return list(chain.sequential())


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv1d(3, 4, 2), nn.Conv2d(3, 4, 2, bias=False)], ids=repr)
def test_a_gain_goes_into_the_weights_in_front(layer):
    chain, before = Chain(), [parameter.detach().clone() for parameter in layer.parameters()]
    chain.add(layer)
    chain.drive("layer 1", torch.tensor([1.0, 2.0, 3.0, -4.0]).reshape(4, *[1] * (layer.weight.ndim - 2)))
    neuron = fired(chain)[1]
    for parameter, old in zip(layer.parameters(), before, strict=True):
        gain = torch.tensor([1.0, 2.0, 3.0, -4.0]).reshape(4, *[1] * (old.ndim - 1))
        assert torch.equal(parameter, old * gain)
    assert float(neuron.threshold) == 1.0


def test_weights_that_a_hook_may_change_are_left_alone():
    chain, linear = Chain(), nn.Linear(3, 4)
    linear.register_forward_pre_hook(lambda *_: None)
    before = linear.weight.detach().clone()
    chain.add(linear)
    chain.drive("layer 1", scalar(4.0))
    assert torch.equal(linear.weight, before)
    assert float(fired(chain, quantum=scalar(0.5))[1].threshold) == 0.25
    assert float(chain.sequential()[1].reset_quantum) == 0.125


def test_a_gain_without_weights_for_it_is_refused():
    for gain in (0.0, -2.0):
        chain = Chain()
        chain.drive("layer 0", scalar(gain))
        with pytest.raises(ExportError, match=r"layer 1 scales its input by .* no Linear or Conv layer"):
            fired(chain)
    chain = Chain()
    chain.drive("layer 0", scalar(2.0))
    with pytest.raises(ExportError, match="layer 1 scales its input by 2"):
        chain.integrate("layer 1", scalar(0.9))


def test_what_rounding_made_of_one_is_no_gain():
    chain = Chain()
    chain.drive("layer 0", scalar(1 + 1e-7))
    assert float(fired(chain)[0].threshold) == 1.0


@torch.no_grad()
def test_a_reset_that_adds_is_a_folded_neuron():
    (neuron,) = fired(Chain(), quantum=scalar(-0.25))
    assert isinstance(neuron, FoldedLIF)
    x = 2 * torch.rand(30, 4, 3, dtype=torch.float64)
    v = s = torch.zeros(4, 3, dtype=torch.float64)
    expected = []
    for step in x:
        v = 0.5 * (v + 0.25 * s) + step
        s = (v > 1).double()
        expected.append(s)
    assert 0 < x.mean() < 2
    assert torch.equal(sk.Sequential(neuron).double()(x), torch.stack(expected))


def test_resets_of_the_peers_are_outside_the_graph():
    assert fired(Chain())[0].rule.detach_reset
    assert fired(Chain(), beta=scalar(1.0))[0].rule.detach_reset
    assert fired(Chain(), alpha=scalar(0.3))[0].rule.detach_reset


def test_a_threshold_that_is_not_above_rest_is_refused():
    with pytest.raises(ExportError, match="layer 1 fires at 0 above rest"):
        fired(Chain(), threshold=torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize(
    ("layers", "shape", "fits"),
    [
        ([nn.Linear(3, 4)], (4,), True),
        ([nn.Linear(3, 4)], (3,), False),
        ([nn.Linear(3, 4)], (4, 4), False),
        ([nn.Conv2d(1, 4, 2)], (4, 1, 1), True),
        ([nn.Conv2d(1, 4, 2)], (3, 1, 1), False),
        ([nn.Conv2d(1, 4, 2), nn.Flatten()], (9,), True),
        # Nothing tells what comes out of these.
        ([nn.Linear(3, 4), nn.Unflatten(-1, (2, 2))], (2, 2), True),
        ([nn.Flatten(0, 1)], (2, 2), True),
    ],
)
def test_parameters_fit_the_layer_in_front_or_name_it(layers, shape, fits):
    chain = Chain()
    for layer in layers:
        chain.add(layer)
    threshold = 1 + torch.rand(shape)
    if fits:
        assert chain.place("layer 9", "threshold", threshold).numel() == threshold.numel()
    else:
        with pytest.raises(ExportError, match=r"layer 9: its threshold has the shape"):
            chain.place("layer 9", "threshold", threshold)


@pytest.mark.parametrize(
    ("layer", "before", "after"),
    [
        (nn.Flatten(), 3, 1),
        (nn.Flatten(2), 3, 2),
        (nn.Flatten(1, 2), 3, 2),
        (nn.Flatten(), None, 1),
        (nn.Linear(1, 1), None, 1),
        (nn.Linear(1, 1), 2, 2),
        (nn.Unflatten(1, (1, 1)), 1, None),
        (nn.AvgPool2d(2), None, 3),
        (nn.Conv1d(1, 1, 1), None, 2),
        (nn.BatchNorm1d(1), 1, 1),
        (nn.ReLU(), 2, 2),
    ],
)
def test_axes_behind_a_layer(layer, before, after):
    assert axes_after(layer, before) == after


def test_nothing_to_import():
    with pytest.raises(ExportError, match="no layer to import"):
        Chain().sequential()
