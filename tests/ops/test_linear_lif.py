"""Linear and LIF in one pass: the spikes and the state of the two layers one after the other, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
import spikekit.ops.linear as linear_op
import spikekit.ops.linear_lif as op
from spikekit import layers
from spikekit.errors import InputError
from spikekit.ops.linear import cpu as linear_cpu
from spikekit.ops.linear import events
from spikekit.ops.linear_lif import cpu
from spikekit.ops.paths import set_path


@pytest.fixture
def fused(always_fused):
    """Every product by events; the shapes of the inputs that were run in one pass."""
    return always_fused(cpu, linear_op, events, op)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [(6, 3, 37, 19), (3, 300, 1100, 140), (1, 1, 1, 1), (4, 129, 50, 128)], ids=str)
def test_the_same_graded_spikes(fused, poison, sizes, dtype, reset, threads, graded_spikes, one_by_one):
    steps, batch, inner, outer = sizes
    beta = torch.rand(outer, dtype=dtype)
    for neuron in (sk.LIF(0.9, reset=reset), sk.LIF(beta, 0.3, reset, reset_quantum=0.7, inclusive=True)):
        for bias in (True, False):
            net = sk.Sequential(nn.Linear(inner, outer, bias=bias, dtype=dtype), neuron)
            x = graded_spikes(steps, batch, inner, dtype=dtype)
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                with torch.no_grad():
                    y = net(x)
                    expected, _ = one_by_one(net, x)
            finally:
                torch.set_num_threads(before)
            assert torch.equal(y, expected)
            assert fused.pop() == (steps, batch, inner)
            assert not fused


def test_the_state_is_carried(fused, graded_spikes):
    net = sk.Sequential(nn.Linear(30, 20), sk.LIF(), nn.Linear(20, 8), sk.IF(), nn.Linear(8, 4), sk.LI())
    x = graded_spikes(12, 5, 30)
    with torch.no_grad():
        whole, end = sk.run(net, x)
        state, pieces = None, []
        for piece in x.split(5):
            y, state = sk.run(net, piece, state)
            pieces.append(y)
    assert len(fused) == 2 * (1 + 3)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=0)
    for name in end:
        assert torch.equal(state[name]["v"], end[name]["v"])


def test_a_state_of_another_batch_is_refused(fused, graded_spikes):
    net = sk.Sequential(nn.Linear(30, 20), sk.LIF())
    with torch.no_grad():
        _, state = sk.run(net, graded_spikes(3, 5, 30))
        with pytest.raises(sk.errors.StateError, match=r"layer 1: state of '1' \(LIF\): v is of a batch of 5"):
            sk.run(net, graded_spikes(3, 4, 30), state)


def test_numbers_that_are_not_finite_are_named_like_without(fused, graded_spikes):
    net = sk.Sequential(nn.Linear(6, 4), sk.LIF())
    x = graded_spikes(3, 2, 6)
    x[1, 1, 2] = torch.inf
    with torch.no_grad(), pytest.raises(InputError, match=r"layer 1: LIF.*at \[T, B, ...\] = \[1, 1, 0\]"):
        net(x)
    assert fused
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan
    # A NaN among the weights makes NaN of zeros, too: the product is dense, and the drive is found out.
    with torch.no_grad(), pytest.raises(InputError, match=r"layer 1: LIF.*drive holds nan"):
        net(torch.zeros(3, 2, 6))


def test_not_where_somebody_wants_what_lies_between(fused, graded_spikes):
    net = sk.Sequential(nn.Linear(6, 4), sk.LIF())
    x = graded_spikes(3, 2, 6)
    net(x)
    with torch.no_grad():
        sk.record(net, x, ["1.drive"])
        handle = net[1].register_forward_hook(lambda *args: None)
        net(x)
        handle.remove()
        handle = net[0].register_forward_hook(lambda *args: None)
        net(x)
        handle.remove()
        sk.Sequential(nn.Linear(6, 4), sk.LIF(norm=sk.MPBN(4))).eval()(x)
        set_path("torch")
        try:
            net(x)
        finally:
            set_path("auto")
        assert not fused
        net(x)
        assert fused


def test_a_compiled_network_runs_it_too(fused, graded_spikes):
    net = sk.Sequential(nn.Linear(300, 256), sk.LIF(), nn.Linear(256, 5), sk.LI())
    x = graded_spikes(20, 16, 300)
    with torch.no_grad():
        expected = net(x)
        fused.clear()
        found = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    assert fused == [(20, 16, 300)]
    assert torch.equal(found, expected)


def test_dense_input_is_one_after_the_other():
    net = sk.Sequential(nn.Linear(300, 256), sk.LIF())
    x = torch.randn(20, 64, 300)
    assert layers.apply_together(net[0], net[1], x, layers.Order()) is None  # with gradients
    with torch.no_grad():
        y = layers.apply_together(net[0], net[1], x, layers.Order())
        assert torch.equal(y, net[1](torch.nn.functional.linear(x, net[0].weight, net[0].bias)))


def test_opcheck(graded_spikes):
    x, weight, bias = graded_spikes(4, 3, 10), torch.randn(7, 10), torch.randn(7)
    numbers = [torch.tensor(value) for value in (0.9, 1.0, 1.0)]
    for b, v0 in ((bias, None), (None, torch.randn(3, 7))):
        arguments = (x, weight, b, v0, *numbers, "soft", False)
        torch.library.opcheck(torch.ops.spikekit.linear_lif.default, arguments)


def test_the_self_test_finds_a_fault(monkeypatch):
    monkeypatch.setattr(linear_cpu, "packed", lambda matrix, packed=linear_cpu.packed: packed(matrix * 2))
    with pytest.raises(ArithmeticError, match="other spikes"):
        cpu._self_test(torch.float32)
