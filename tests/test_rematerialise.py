"""checkpoint_time: the numbers of the network itself, from a fraction of what it keeps for the backward pass."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit import rematerialise
from spikekit.errors import InputError, StateError
from spikekit.state import active

T, B = 13, 2


class Residual(nn.Module):
    """A network within the network, one of its neurons called twice."""

    def __init__(self):
        super().__init__()
        self.inner = sk.Sequential(nn.Linear(6, 6), sk.LIF(0.8, 0.4, "hard"), nn.Linear(6, 6))
        self.lif = sk.LIF(0.7, 0.5)

    def forward(self, x):
        return self.lif(x + self.inner(self.lif(2 * x)))


class Recurrent(nn.Module):
    """Feedback from spikes to drive by a loop of its own."""

    def __init__(self):
        super().__init__()
        self.back = nn.Linear(6, 6)
        self.lif = sk.LIF(0.8, 0.5, learn=("beta", "threshold"))

    def forward(self, x):
        def step(spikes, x_t):
            y = self.lif(x_t + self.back(spikes))
            return y[0], y

        return sk.scan(self, step, x, torch.zeros_like(x[0]))[0]


class Adapting(nn.Module):
    """Normalises by a running scale that it writes itself: what it returns depends on when it is asked."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        with torch.no_grad():
            self.scale.mul_(0.5).add_(x.abs().mean())
        return x / self.scale.clone()


def chain(*middle):
    return sk.Sequential(nn.Linear(6, 6), *middle, sk.LIF(0.8, 0.4), nn.Linear(6, 6), sk.LI(0.7))


def normalised():
    norm = nn.BatchNorm1d(6)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return chain(norm).eval()


NETS = {
    "chain": chain,
    "learned": lambda: sk.Sequential(
        nn.Linear(6, 6), sk.LIF(torch.rand(6), 0.4, learn=("beta", "threshold")), sk.LI(0.5, learn=("beta",))
    ),
    "residual": Residual,
    "recurrent": Recurrent,
    "normalised": normalised,
    "neuron": sk.LIF,
    "family": lambda: sk.Sequential(
        nn.Linear(6, 6), sk.CUBALIF(0.6, 0.8, 0.4, learn="alpha"), sk.RecurrentLIF(6, 0.8, 0.4, bias=True), sk.LI(0.7)
    ),
    "within itself": lambda: chain(sk.checkpoint_time(Recurrent(), 2), nn.BatchNorm1d(6).eval()),
}


@pytest.fixture
def x():
    return torch.randn(T, B, 6, dtype=torch.float64).requires_grad_()


def gradients(net, x, forward=None, seed=0):
    """Output and gradients of a loss that tells every step from every other."""
    torch.manual_seed(seed)
    y = (net if forward is None else forward)(x)
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    return y, torch.autograd.grad((y * weight).sum(), [x, *net.parameters()])


def in_pieces(net, chunk):
    """The same pieces by hand, with all their activations."""

    def forward(x):
        state, outputs = None, []
        for piece in x.split(chunk):
            y, state = sk.run(net, piece, state)
            outputs.append(y)
        return torch.cat(outputs)

    return forward


def saved_bytes(forward):
    """Bytes of all storages that autograd keeps for the backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = forward()
    assert y.requires_grad
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}.values())


@pytest.mark.parametrize("chunk", [1, 4, 13, 100, None])
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_are_those_of_the_network(name, chunk, x):
    net = NETS[name]().double()
    expected, expected_grads = gradients(net, x)
    y, grads = gradients(net, x, sk.checkpoint_time(net, chunk))
    assert expected.any()
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert wanted.any()
        torch.testing.assert_close(grad, wanted, rtol=1e-12, atol=1e-12)


def test_a_neuron_alone_is_equal_bit_for_bit(x):
    net = sk.LIF(0.5, 0.5, "none")
    (y, (grad,)), (wanted, (wanted_grad,)) = gradients(sk.checkpoint_time(net, 4), x), gradients(net, x)
    assert torch.equal(y, wanted)
    assert torch.equal(grad, wanted_grad)


def test_what_is_kept_shrinks():
    net = sk.Sequential(nn.Linear(8, 32), sk.LIF(), nn.Linear(32, 32), sk.LIF(), nn.Linear(32, 4), sk.LIF())
    x = torch.randn(1600, 2, 8)
    whole = saved_bytes(lambda: net(x))
    assert saved_bytes(lambda: sk.checkpoint_time(net)(x)) < 0.1 * whole
    # All that is left: the input, and a state of 32 + 32 + 4 neurons at each of the 39 boundaries.
    expected = x.nbytes + 39 * 2 * (32 + 32 + 4) * 4
    assert saved_bytes(lambda: sk.checkpoint_time(net, 40)(x)) == expected


def test_none_is_the_root_of_t_rounded_up(x):
    lengths = []

    class Counts(nn.Module):
        def forward(self, x):
            lengths.append(len(x))
            return x

    wrapped = sk.checkpoint_time(Counts())
    for steps in (1, 2, 9, 10):
        wrapped(x[:steps])
    assert lengths == [1, 2, 3, 3, 3, 4, 4, 2]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_checkpointed(mode, x, monkeypatch):
    monkeypatch.setattr(rematerialise, "checkpoint", None)
    net = Recurrent().double()
    with mode():
        torch.testing.assert_close(sk.checkpoint_time(net, 4)(x), net(x), rtol=0, atol=1e-12)


def test_batch_statistics_are_of_the_piece_and_counted_once(x):
    net = chain(nn.BatchNorm1d(6)).double()
    by_hand = copy.deepcopy(net)
    expected, expected_grads = gradients(by_hand, x, in_pieces(by_hand, 4))
    y = sk.checkpoint_time(net, 4)(x)
    after_forward = {name: value.clone() for name, value in net.state_dict().items()}
    assert net[1].num_batches_tracked == 4
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    for _ in range(2):  # the second backward pass computes the pieces a third time
        grads = torch.autograd.grad((y * weight).sum(), [x, *net.parameters()], retain_graph=True)
        torch.testing.assert_close((y, grads), (expected, expected_grads), rtol=1e-12, atol=1e-12)
    for name, value in net.state_dict().items():
        assert torch.equal(value, after_forward[name])
        assert torch.equal(value, by_hand.state_dict()[name])
    assert not torch.allclose(y, chain(nn.BatchNorm1d(6)).double()(x))


def test_a_module_sees_the_buffers_it_wrote_then(x):
    net = chain(Adapting()).double()
    by_hand = copy.deepcopy(net)
    torch.testing.assert_close(
        gradients(net, x, sk.checkpoint_time(net, 4)), gradients(by_hand, x, in_pieces(by_hand, 4)), rtol=1e-12, atol=0
    )
    assert torch.equal(net[1].scale, by_hand[1].scale)


def test_dropout_draws_the_same_mask_again(x):
    net = chain(nn.Dropout(0.5)).double()
    torch.testing.assert_close(
        gradients(net, x, sk.checkpoint_time(net, 4)), gradients(net, x, in_pieces(net, 4)), rtol=1e-12, atol=1e-12
    )
    assert not torch.equal(gradients(net, x)[0], gradients(net, x, seed=1)[0])


def test_evaluating_before_the_backward_pass_changes_nothing(x):
    net = chain(nn.BatchNorm1d(6), nn.Dropout(0.5)).double()
    weights = list(net.parameters())
    y = sk.checkpoint_time(net, 4)(x)
    expected = torch.autograd.grad(y.sum(), weights, retain_graph=True)
    net.eval()
    grads = torch.autograd.grad(y.sum(), weights)
    assert all(torch.equal(grad, wanted) for grad, wanted in zip(grads, expected, strict=True))
    assert not any(module.training for module in net.modules())


def test_a_step_of_the_optimiser_before_the_backward_pass_is_refused(x):
    net = chain().double()
    y = sk.checkpoint_time(net, 4)(x)
    with torch.no_grad():
        net[2].bias.add_(1)
    with pytest.raises(StateError, match=r"'2.bias' was changed in place between the forward and the backward"):
        y.sum().backward()
    assert active() is None


def test_run_carries_on_inside_and_across(x):
    net = sk.Sequential(sk.checkpoint_time(Residual(), 3), nn.Linear(6, 2), sk.LI(0.5)).double()
    plain = sk.Sequential(net[0].module, *net[1:])
    expected, expected_grads = gradients(plain, x)
    _, state = sk.run(net, x)
    assert set(state) == {"0.module.lif", "0.module.lif#2", "0.module.inner.1", "2"}

    torch.testing.assert_close(gradients(net, x, in_pieces(net, 5)), (expected, expected_grads), rtol=1e-12, atol=1e-12)
    again = pickle.loads(pickle.dumps(sk.map_state(torch.detach, state)))
    torch.testing.assert_close(sk.run(net, x, again)[0], sk.run(net, x, state)[0])


def test_states_of_another_network_are_refused(x):
    net = sk.checkpoint_time(chain().double(), 4)
    _, state = sk.run(net, x)
    with pytest.raises(StateError, match=r"no entry for 'module\.1'"):
        sk.run(net, x, {"1": state["module.1"]})
    with pytest.raises(StateError, match=r"did not use: \['other'\]"):
        sk.run(net, x, {**state, "other": {"v": x[0]}})


def test_record_keeps_whole_traces_with_their_gradients(x):
    net = chain().double()
    names = ["1.spikes", "1.membrane", "3.drive"]
    y, expected = sk.record(net, x, names)
    z, traces = sk.record(sk.checkpoint_time(net, 4), x, [f"module.{name}" for name in names])
    for name in names:
        trace, wanted = traces[f"module.{name}"], expected[name]
        torch.testing.assert_close(trace, wanted, rtol=0, atol=1e-12)
    grads = torch.autograd.grad((z * traces["module.1.membrane"]).sum(), [x, *net.parameters()])
    wanted = torch.autograd.grad((y * expected["1.membrane"]).sum(), [x, *net.parameters()])
    torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)


def test_calls_are_numbered_as_without_pieces(x):
    class Twice(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.net = wrap(Residual())

        def forward(self, x):
            return self.net(self.net(x))

    torch.manual_seed(0)
    plain = Twice(lambda net: net).double()
    torch.manual_seed(0)
    pieces = Twice(lambda net: sk.checkpoint_time(net, 4)).double()
    _, expected = sk.record(plain, x)
    _, traces = sk.record(pieces, x)
    assert [name.replace("module.", "") for name in traces] == list(expected)
    assert "net.lif#4.spikes" in expected
    for trace, wanted in zip(traces.values(), expected.values(), strict=True):
        assert torch.equal(trace, wanted)
    first, state = sk.run(pieces, x[:6])
    assert torch.equal(torch.cat([first, sk.run(pieces, x[6:], state)[0]]), plain(x))


def test_under_autocast(x):
    net, x = chain(), x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = sk.checkpoint_time(net, 4)(x)
        expected = in_pieces(net, 4)(x)
    assert torch.equal(y, expected)
    grads = (torch.autograd.grad(out.sum(), [x, *net.parameters()]) for out in (y, expected))
    for grad, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=2**-7, atol=1e-2)


def test_under_torch_func(x):
    """With the parameters as arguments; and by torch.func.grad, which cannot compute again and need not."""
    net = chain().double()
    wrapped = sk.checkpoint_time(net, 4)
    others = {name: torch.randn_like(value).requires_grad_() for name, value in wrapped.named_parameters()}
    y = torch.func.functional_call(wrapped, others, (x,))
    grads = torch.autograd.grad(y.sum(), list(others.values()))
    plain = torch.func.functional_call(net, {name.removeprefix("module."): v for name, v in others.items()}, (x,))
    wanted = torch.autograd.grad(plain.sum(), list(others.values()))
    torch.testing.assert_close(grads, wanted, rtol=1e-12, atol=1e-12)
    grad = torch.func.grad(lambda x: wrapped(x).sum())(x.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(net(x).sum(), x)[0], rtol=1e-12, atol=1e-12)


def test_torch_compile_leaves_it_out(x):
    net = chain(nn.BatchNorm1d(6)).double()
    wrapped = sk.checkpoint_time(net, 4)
    torch.testing.assert_close(
        gradients(net, x, torch.compile(wrapped, backend="eager")), gradients(net, x, wrapped), rtol=0, atol=0
    )


def test_several_outputs(x):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = sk.LIF()

        def forward(self, x):
            spikes = self.lif(x)
            return {"spikes": spikes, "counts": spikes.sum(2)}

    y = sk.checkpoint_time(Two(), 4)(x)
    assert {name: tuple(v.shape) for name, v in y.items()} == {"spikes": (T, B, 6), "counts": (T, B)}
    assert torch.equal(y["spikes"], sk.LIF()(x))


def test_copies_and_checkpoints(x):
    net = chain().double()
    wrapped = sk.checkpoint_time(net, 4)
    y = wrapped(x)
    for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert torch.equal(other(x), y)
        assert other.chunk == 4
    fresh = chain().double()
    fresh.load_state_dict(wrapped.module.state_dict())
    assert torch.equal(fresh(x), net(x))
    assert set(wrapped.state_dict()) == {f"module.{name}" for name in net.state_dict()}
    assert "chunk=4" in repr(wrapped)


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True, "4"])
def test_a_chunk_is_a_number_of_steps(chunk):
    with pytest.raises(InputError, match=rf"chunk must be .* an int > 0 or None, got {chunk!r}"):
        sk.checkpoint_time(sk.LIF(), chunk)


def test_what_is_not_a_network_is_refused():
    with pytest.raises(InputError, match="net must be a module, got function"):
        sk.checkpoint_time(chain)


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(0, 2, 6), [1.0]])
def test_what_is_not_a_sequence_is_refused(bad):
    with pytest.raises(InputError, match=r"must have the axes \[T, B, ...\] with T > 0, got"):
        sk.checkpoint_time(sk.LIF(), 4)(bad)


@pytest.mark.parametrize("reduce", [lambda y: y.mean(0), lambda y: y[::2], lambda y: y.sum(), lambda y: (y, None)])
def test_a_network_that_spans_time_is_refused(reduce, x):
    class Spans(nn.Module):
        def forward(self, x):
            return reduce(x)

    with pytest.raises(InputError, match=r"Spans must return \[T, B, ...\] .*\[T=4, B=2, ...\] it returned .*after"):
        sk.checkpoint_time(Spans(), 4)(x)


def test_a_layer_that_forgets_is_refused(x):
    class Within(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(1, 6, batch_first=True)

        def forward(self, x):
            return self.gru(x.unsqueeze(-1))[0][:, -1]

    with pytest.raises(InputError, match=r"GRU\(1, 6.*\) starts from zero at every piece.*sk.scan"):
        sk.checkpoint_time(nn.Sequential(Within()))
    net = sk.fold_time(Within()).double()
    torch.testing.assert_close(sk.checkpoint_time(net, 4)(x), net(x))
