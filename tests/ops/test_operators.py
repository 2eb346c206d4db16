"""When an operator is called through torch's dispatcher, where others see it, and when directly."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode

import spikekit as sk
from spikekit.ops.lif import operator

NEURON = sk.LIF(0.9)


@pytest.fixture
def x():
    return torch.randn(4, 3, 5, requires_grad=True)


@pytest.fixture
def dispatched(monkeypatch):
    """Inputs of the calls that went through the dispatcher."""
    calls = []
    overload = operator.lif_training.overload
    monkeypatch.setattr(operator.lif_training, "overload", lambda *inputs: calls.append(inputs) or overload(*inputs))
    return calls


class Names(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def test_directly_where_nobody_watches(dispatched, x):
    y = NEURON(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert not dispatched
    with Names():
        watched = NEURON(x)
        (expected,) = torch.autograd.grad(watched.sum(), x)
    assert dispatched
    assert torch.equal(y, watched)
    assert torch.equal(gradient, expected)


def test_modes_see_the_operators(x):
    with Names() as mode:
        torch.autograd.grad(NEURON(x).sum(), x)
    assert {"spikekit.lif.default", "spikekit.lif_backward.default"} <= set(mode.seen)
    with Calls() as calls:
        NEURON(x)
    assert "spikekit.lif.default" in calls.seen


def test_profilers_see_the_operators(x):
    with profile() as found:
        torch.autograd.grad(NEURON(x).sum(), x)
    assert {"spikekit::lif", "spikekit::lif_backward"} <= {event.name for event in found.events()}


def test_traces_hold_the_operators():
    with pytest.warns((torch.jit.TracerWarning, DeprecationWarning)):
        traced = torch.jit.trace(NEURON, torch.randn(4, 3, 5), check_trace=False)
    assert "spikekit::lif_inference" in str(traced.graph)


def test_subclasses_of_tensor_go_through_the_dispatcher(dispatched):
    class Own(torch.Tensor):
        pass

    NEURON(torch.randn(4, 3, 5).as_subclass(Own).requires_grad_())
    assert dispatched


def test_outputs_may_be_changed_in_place(x):
    for leaf in (x, x.detach()):
        y = NEURON(leaf)
        assert not y._is_view()
        y.mul_(2)
