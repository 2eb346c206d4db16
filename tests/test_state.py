"""run, record, scan and map_state: sessions that open, name, carry and close."""

from __future__ import annotations

import pickle
import threading

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import StateError
from spikekit.state import active


class Shared(nn.Module):
    """One neuron, called twice in one forward."""

    def __init__(self):
        super().__init__()
        self.lif = sk.LIF(0.8, 0.5)

    def forward(self, x):
        return self.lif(2 * self.lif(x))


class Loop(nn.Module):
    """The same neuron twice in every step of a loop, and the loop itself called twice."""

    def __init__(self):
        super().__init__()
        self.lif = sk.LIF(0.8, 0.5)

    def forward(self, x):
        def step(h, x_t):
            y = self.lif(self.lif(x_t + h))
            return 0.5 * h + y[0], y

        x, _ = sk.scan(self, step, x, torch.zeros_like(x[0]))
        y, _ = sk.scan(self, step, x, torch.zeros_like(x[0]))
        return y


class Hidden(nn.Module):
    """A neuron that is not registered as a submodule."""

    def __init__(self):
        super().__init__()
        self.layers = [sk.LIF()]

    def forward(self, x):
        return self.layers[0](x)


@pytest.fixture
def net():
    return sk.Sequential(nn.Linear(3, 4), sk.LIF(0.8, 0.3), nn.Linear(4, 2), sk.LI(0.5)).requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(8, 2, 3)


def test_a_state_is_a_plain_dictionary_of_tensors(net, x):
    _, state = sk.run(net, x)
    assert {name: {key: tuple(v.shape) for key, v in entry.items()} for name, entry in state.items()} == {
        "1": {"v": (2, 4)},
        "3": {"v": (2, 2)},
    }
    again = pickle.loads(pickle.dumps(state))
    y, _ = sk.run(net, x, again)
    assert torch.equal(y, sk.run(net, x, state)[0])


def test_run_at_rest_is_a_call(net, x):
    y, _ = sk.run(net, x)
    assert torch.equal(y, net(x))


def test_state_is_used(net, x):
    _, state = sk.run(net, x)
    assert not torch.equal(sk.run(net, x, state)[0], net(x))


def test_state_of_part_of_a_batch(net, x):
    """A stream that ends drops out of the batch; the others go on as if nothing had happened."""
    _, state = sk.run(net, x)
    both, _ = sk.run(net, x, state)
    one, _ = sk.run(net, x[:, 1:], sk.map_state(lambda v: v[1:], state))
    torch.testing.assert_close(one, both[:, 1:])


def test_map_state_leaves_the_old_state_alone(net, x):
    _, state = sk.run(net, x)
    doubled = sk.map_state(lambda v: v * 2, state)
    assert torch.equal(doubled["1"]["v"], state["1"]["v"] * 2)
    assert doubled.keys() == state.keys()


def test_the_readouts_state_is_not_its_output(net, x):
    y, state = sk.run(net, x)
    kept = state["3"]["v"].clone()
    y.zero_()
    assert torch.equal(state["3"]["v"], kept)
    assert state["3"]["v"].untyped_storage().nbytes() == kept.untyped_storage().nbytes()


def test_a_neuron_called_twice_has_two_states(x):
    net = Shared()
    whole = net(x)
    first, state = sk.run(net, x[:3])
    second, _ = sk.run(net, x[3:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert set(state) == {"lif", "lif#2"}
    assert not torch.equal(state["lif"]["v"], state["lif#2"]["v"])


def test_loops_have_states_of_their_own(x):
    net = Loop()
    whole, recorded = sk.record(net, x, ["lif.spikes"])
    assert {name: tuple(v.shape) for name, v in recorded.items()} == {
        "lif.spikes": (16, 2, 3),
        "lif#2.spikes": (16, 2, 3),
    }
    assert torch.equal(recorded["lif#2.spikes"][8:], whole)
    first, state = sk.run(net, x[:5])
    assert set(state) == {".scan", "#2.scan"}
    assert set(state[".scan"]["inner"]) == {"lif", "lif#2"}
    second, _ = sk.run(net, x[5:], state)
    assert torch.equal(torch.cat([first, second]), whole)


def test_a_loop_without_run_starts_at_rest_every_time(x):
    net = Loop()
    assert torch.equal(net(x), net(x))


def test_one_neuron_under_two_names_is_one_neuron(x):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = sk.LIF()
            self.b = self.a

        def forward(self, x):
            return self.b(self.a(x))

    assert set(sk.run(Twice(), x)[1]) == {"a", "a#2"}


def test_a_hidden_neuron_is_refused_inside_run(x):
    net = Hidden()
    net(x)
    for call in (sk.run, sk.record):
        with pytest.raises(StateError, match=r"LIF is used inside run\(\) .* not a submodule.*nn.ModuleList"):
            call(net, x)
        assert active() is None


def test_run_inside_run(net, x):
    """A module may run another network on its own; the sessions do not mix."""

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = sk.LIF()
            self.other = [net]

        def forward(self, x):
            inner, state = sk.run(self.other[0], x)
            assert set(state) == {"1", "3"}
            return self.lif(inner)

    _, state = sk.run(Outer(), x)
    assert set(state) == {"lif"}


def test_sessions_close_after_an_error(net, x):
    expected = net(x)

    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            self.net(x)
            raise KeyError("by the user")

    for call in (sk.run, sk.record):
        with pytest.raises(KeyError, match="by the user"):
            call(Breaks(), x)
        assert active() is None
    assert torch.equal(net(x), expected)
    assert torch.equal(sk.run(net, x)[0], expected)


def test_threads_have_sessions_of_their_own(net):
    """Two streams through one network at once, in small pieces, each in its own thread."""
    streams = torch.randn(2, 40, 2, 3)
    expected = [net(stream) for stream in streams]
    results, barrier, foreign = [None, None], threading.Barrier(2, timeout=15), []

    def work(index):
        state, outputs = None, []
        for piece in streams[index].split(1):
            barrier.wait()
            y, state = sk.run(net, piece, state)
            outputs.append(y)
            if active() is not None:
                foreign.append(index)
        results[index] = torch.cat(outputs)

    class Waits(nn.Module):
        def forward(self, x):
            barrier.wait()
            return x

    net.insert(1, Waits())
    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not foreign
    for result, whole in zip(results, expected, strict=True):
        torch.testing.assert_close(result, whole)


def test_checkpointed_layers_match(x):
    """Recomputation happens in the backward pass, outside the session: at rest it agrees with the forward pass."""

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = sk.LIF()

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.lif, x, use_reentrant=False)

    net, leaf = Checkpointed(), x.requires_grad_()
    (grad,) = torch.autograd.grad(net(leaf).sum(), leaf)
    (expected,) = torch.autograd.grad(net.lif(leaf).sum(), leaf)
    assert torch.equal(grad, expected)
    # With a carried state it cannot, and torch says so instead of computing another gradient.
    _, state = sk.run(net, leaf)
    y, _ = sk.run(net, leaf, sk.map_state(torch.detach, state))
    with pytest.raises(torch.utils.checkpoint.CheckpointError, match="different number of tensors"):
        y.sum().backward()
