from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.measure.activity import ActivityMeter, LayerActivity


def drive(rows):
    """Memoryless neurons with threshold 1: a drive of 2 fires, 0 does not. rows: [T][B][N]."""
    return 2.0 * torch.tensor(rows, dtype=torch.float32)


def memoryless():
    return sk.Sequential(sk.LIF(beta=0.0, reset="none"))


def test_counts_by_hand():
    net = memoryless()
    with ActivityMeter(net) as meter:
        net(drive([[[1, 0, 0], [1, 0, 1]], [[1, 0, 0], [0, 0, 0]]]))
        net(drive([[[0, 0, 1]]]))
    (row,) = meter.summary()
    assert row == LayerActivity("0", "LIF", spikes=5, neuron_steps=15, neurons=3, dead_neurons=1)
    assert row.rate == pytest.approx(1 / 3)
    assert not row.dead


def test_layers_are_named_and_readouts_left_out():
    inner = sk.Sequential(sk.IF(), nn.Linear(4, 4), sk.LIF(threshold=1e9))
    net = sk.Sequential(nn.Linear(4, 4), inner, sk.LI())
    with ActivityMeter(net) as meter:
        net(torch.full((5, 2, 4), 9.0))
    rows = {row.name: row for row in meter.summary()}
    assert list(rows) == ["1.0", "1.2"]
    assert (rows["1.0"].kind, rows["1.2"].kind) == ("IF", "LIF")
    assert rows["1.2"].dead
    assert rows["1.2"].dead_neurons == rows["1.2"].neurons == 4


def test_a_layer_that_did_not_run_is_not_dead():
    (row,) = ActivityMeter(memoryless()).summary()
    assert row == LayerActivity("0", "LIF", 0, 0)
    assert row.rate == 0.0
    assert not row.dead


def test_it_counts_only_while_open_and_until_reset():
    net, x = memoryless(), drive([[[1]]])
    meter = ActivityMeter(net)
    net(x)
    with meter:
        net(x)
    net(x)
    assert meter.summary()[0].spikes == 1
    with meter:
        net(x)
        with pytest.raises(InputError, match="already open"):
            meter.__enter__()
    assert meter.summary()[0].spikes == 2
    meter.reset()
    assert meter.summary()[0].neuron_steps == 0
    assert not net[0]._forward_hooks


def test_inputs_of_several_sizes_give_totals():
    net = memoryless()
    with ActivityMeter(net) as meter:
        net(drive([[[1, 0]]]))
        net(drive([[[1, 1, 0]]]))
        net(drive([[[1, 0]]]))
    assert meter.summary() == [LayerActivity("0", "LIF", spikes=4, neuron_steps=7)]


def test_counts_are_exact_in_half_precision_and_do_not_touch_the_graph():
    net = sk.Sequential(sk.LIF(beta=0.0, reset="none"))
    x = torch.full((41, 21, 3), 2.0, dtype=torch.bfloat16, requires_grad=True)
    with ActivityMeter(net) as meter:
        net(x).float().sum().backward()
    assert meter.summary()[0].spikes == 41 * 21 * 3
    assert x.grad is not None
    assert not any(value.requires_grad for value in meter.state_dict().values())


def test_it_agrees_with_record():
    torch.manual_seed(0)
    net = sk.Sequential(nn.Conv2d(2, 3, 3), sk.LIF(), nn.Flatten(), nn.Linear(48, 5), sk.LIF(threshold=0.2))
    with ActivityMeter(net) as meter:
        _, recorded = sk.record(net, 3 * torch.rand(7, 4, 2, 6, 6))
    for row in meter.summary():
        spikes = recorded[f"{row.name}.spikes"]
        assert row.spikes == spikes.sum() > 0
        assert row.neuron_steps == spikes.numel()
        assert row.dead_neurons == (spikes.sum((0, 1)) == 0).sum()


def test_it_goes_on_from_a_stored_state():
    net, x = memoryless(), drive([[[1, 0]]])
    meter, other = ActivityMeter(net), ActivityMeter(net)
    with meter:
        net(x)
    state = meter.state_dict()
    other.load_state_dict(state)
    with meter, other:
        net(x)
    assert meter.summary() == other.summary()
    assert state["neurons.0"].tolist() == [1, 0]


@pytest.mark.parametrize("shapes", [[(2,), (2,)], [(2,), (3,)], [(2,), None]])
def test_processes_are_merged(shapes):
    """Two meters as two processes; the all-reduce is played by adding what the other one gives."""
    net = memoryless()
    meters = [ActivityMeter(net), ActivityMeter(net)]
    for meter, shape in zip(meters, shapes, strict=True):
        if shape is not None:
            with meter:
                net(drive([[[1, *[0] * (shape[0] - 1)]]]))
    alike = shapes[0] == shapes[1]
    other = meters[1]._counters["0"]
    size, steps = -1 if other.per_neuron is None else other.per_neuron.numel(), other.neuron_steps
    counts = other.per_neuron if alike else other.forget_neurons(torch.zeros(()))
    replies = iter([torch.tensor([size]), torch.tensor([size]), torch.tensor([steps]), counts])

    def reduce(tensor, how):
        operation = {"min": torch.minimum, "max": torch.maximum, "sum": torch.add}[how]
        return operation(tensor, next(replies))

    meters[0].merge(reduce, torch.device("cpu"))
    (row,) = meters[0].summary()
    assert row.spikes == sum(shape is not None for shape in shapes)
    assert row.neuron_steps == sum(0 if shape is None else shape[0] for shape in shapes)
    assert row.dead_neurons == (1 if alike else None)


def test_networks_without_spikes_are_refused():
    with pytest.raises(InputError, match="no spiking layer"):
        ActivityMeter(sk.Sequential(nn.Linear(2, 2), sk.LI()))
    with ActivityMeter(nn.Linear(2, 2), allow_none=True) as meter:
        assert meter.summary() == []


def test_a_graded_spike_counts_once_whatever_it_carries():
    x = torch.tensor([2.5, 0.25, -3.0, 0.0]).reshape(4, 1, 1).expand(4, 1, 2)
    net = sk.Sequential(sk.SigmaDelta(0.5, bias=torch.tensor([0.0, -9.0])))
    with ActivityMeter(net) as meter:
        y = net(x)
    assert y[:, 0].T.tolist() == [[2.5, 0, -2.5, 0], [0, 0, 0, 0]]
    assert meter.summary() == [LayerActivity("0", "SigmaDelta", spikes=2, neuron_steps=8, neurons=2, dead_neurons=1)]


def test_spikes_that_are_computed_again_for_the_gradient_count_once():
    # The last layer is not computed again.
    net = sk.checkpoint_time(memoryless().append(sk.IF()), 2)
    x = drive([[[1, 0, 0], [1, 0, 1]]] * 6).requires_grad_()
    with ActivityMeter(net) as meter:
        net(x).sum().backward()
    row = meter.summary()[0]
    assert (row.spikes, row.neuron_steps) == (3 * 6, 6 * 6)


def test_it_is_of_a_network():
    with pytest.raises(InputError, match=r"net must be a torch\.nn\.Module, got int"):
        ActivityMeter(3)
