"""torch.compile with fullgraph=True: the same numbers, forward and backward, alone and inside `run`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.models import AstroLM, AstroLMConfig

# Inductor imports torch's own deprecated scripting.
TORCH_INTERNAL = pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")


class Residual(nn.Module):
    """A user's module: a convolution over folded time, a neuron, a short cut."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.lif = sk.LIF(torch.tensor([0.5, 0.8]), reset="hard", learn="threshold")

    def forward(self, x):
        return x + self.lif(sk.fold_time(self.conv)(x))


class Recurrent(nn.Module):
    """A loop over time of a user's own."""

    def __init__(self):
        super().__init__()
        self.feed, self.back, self.lif = nn.Linear(4, 5), nn.Linear(5, 5), sk.LIF(learn="beta")

    def forward(self, x):
        def step(h, x_t):
            y = self.lif(self.feed(x_t) + self.back(h).unsqueeze(0))
            return y[0], y

        return sk.scan(self, step, x, x.new_zeros(x.shape[1], 5))[0]


def feedforward():
    lif = sk.LIF(torch.full((3,), 0.8), learn=("beta", "threshold"))
    return sk.Sequential(nn.Conv2d(2, 3, 3), lif, nn.Flatten(), nn.Linear(48, 4), sk.LI(0.7))


def family():
    """The rest of the LIF family."""
    return sk.Sequential(
        nn.Linear(4, 5),
        sk.CUBALIF(0.6, torch.full((5,), 0.8), 0.5, learn=("alpha", "beta", "threshold")),
        sk.RecurrentLIF(5, 0.8, 0.4, "hard", bias=True, learn=("beta", "threshold")),
        nn.Linear(5, 3),
        sk.LI(0.7, learn="beta"),
    )


def others():
    """An adaptive threshold, a refractory period, graded spikes."""
    return sk.Sequential(
        nn.Linear(4, 5),
        sk.ALIF(0.8, 0.3, "hard", learn=("beta", "threshold", "rho", "step")),
        nn.Linear(5, 5),
        sk.RefractoryLIF(2, 0.8, 0.3, learn=("beta", "threshold")),
        nn.Linear(5, 3),
        sk.SigmaDelta(0.1, bias=torch.zeros(3), learn="bias"),
    )


def astrocytes():
    """The three things that astrocytes act on, and both sides that they sense."""

    def neurons(acts_on, senses, **settings):
        astrocyte = sk.Astrocyte(2, (3.0, 9.0), acts_on, senses, 0.5, **settings)
        return sk.LIF(0.8, 0.3, learn=("beta", "threshold"), astrocyte=astrocyte)

    return sk.Sequential(
        *(nn.Linear(4, 6), neurons("gain", "post", weight=3.0)),
        sk.TripartiteSynapse(nn.Linear(6, 6), neurons("threshold", "both", bias=0.2)),
        sk.TripartiteSynapse(nn.Linear(6, 4), neurons("plasticity", "pre")),
        sk.LI(0.7),
    )


def normalised():
    """What most people train: convolution, normalisation, neurons, readout."""
    return sk.Sequential(
        *(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), sk.LIF(0.8, 0.5)),
        *(nn.Flatten(), nn.Linear(48, 5), sk.LIF(learn=("beta", "threshold")), nn.Linear(5, 4), sk.LI(0.7)),
    )


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def check(net, x, backend):
    compiled = copy.deepcopy(net)
    compiled.compile(fullgraph=True, backend=backend)
    for one in (net, compiled):
        one(x).square().sum().backward()
    torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-6)
    for (name, p), q in zip(net.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-5, msg=name)

    run = torch.compile(sk.run, fullgraph=True, backend=backend)
    # In training a running mean may change from one piece to the next.
    net.eval()
    first, state = run(net, x[:2])
    state = sk.map_state(torch.detach, state)
    second, last = run(net, x[2:], state)
    expected, expected_state = sk.run(net, x)
    torch.testing.assert_close(torch.cat([first, second]), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(last, expected_state, rtol=1e-5, atol=1e-6)


def test_a_small_network():
    check(feedforward(), torch.randn(5, 2, 2, 6, 6), "aot_eager")


def test_the_rest_of_the_family():
    check(family(), torch.randn(5, 2, 4), "aot_eager")


def test_adaptive_refractory_and_graded():
    check(others(), torch.randn(5, 2, 4), "aot_eager")


def test_astrocytes():
    net = astrocytes()
    check(net, 2 * torch.randn(8, 2, 4), "aot_eager")
    # The comparison says nothing of what never changes.
    assert all(float(net.get_submodule(f"{at}.astrocyte").weight_raw.grad.abs().sum()) > 0 for at in ("1", "2.neuron"))


# The compiler itself makes an object of an autograd function, which torch calls outdated.
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*should not be instantiated:DeprecationWarning")
def test_a_language_model_with_astrocytes():
    net = AstroLM(AstroLMConfig(7, width=8, layers=1))
    check(net, torch.randint(7, (8, 2)), "aot_eager")
    assert float(net.blocks[0].glia.current.grad.abs().sum()) > 0


def check_training(net, backend, steps):
    """Outputs, gradients, running statistics and inference of a network and its compiled twin, at several lengths."""
    compiled = copy.deepcopy(net)
    compiled.compile(fullgraph=True, backend=backend)
    for length in steps:
        x = torch.randn(length, 2, 2, 6, 6)
        for one in (net, compiled):
            one.zero_grad()
            one(x).square().sum().backward()
        for (name, p), q in zip(net.named_parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-5, msg=name)
    torch.testing.assert_close(compiled.state_dict(), net.state_dict(), rtol=1e-5, atol=1e-6)
    for one in (net, compiled):
        one.eval()
    for length in steps:
        x = torch.randn(length, 2, 2, 6, 6)
        with torch.inference_mode():
            torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-6)


def test_training_and_inference_of_a_whole_network():
    check_training(normalised(), "aot_eager", (5, 3))


def test_the_kernels_are_in_the_graph():
    """One operator a layer: neither a break nor the loop of the reference."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    torch.compile(normalised(), fullgraph=True, backend=keep)(torch.randn(5, 2, 2, 6, 6))
    calls = [str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
    assert len(graphs) == 1
    assert calls.count("spikekit.lif.default") == 2


def test_a_new_length_is_not_a_new_graph():
    """Beside the first length there are those of no, one and several chunks, and one step; torch stops at 8 graphs."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    net = normalised().requires_grad_(False)
    compiled = torch.compile(net, fullgraph=True, backend=keep)
    for length in (16, *range(2, 33, 3), *range(33, 65, 4), *range(65, 200, 10), 1):
        compiled(torch.randn(length, 1, 2, 6, 6))
    assert len(graphs) <= 5


def test_a_loop_of_a_users_own():
    """The first call of a session in a fresh thread-local was once a compiler error."""
    check(Recurrent(), torch.randn(4, 2, 4), "aot_eager")


def test_the_state_of_a_compiled_network_is_the_state_of_the_network():
    net = sk.Sequential(nn.Linear(4, 5), sk.LIF(), nn.Linear(5, 2), sk.LI()).requires_grad_(False)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x = torch.randn(6, 2, 4)
    first, state = sk.run(compiled, x[:3])
    assert set(state) == {"1", "3"}
    second, _ = sk.run(net, x[3:], state)
    third, _ = sk.run(compiled, x[3:], state)
    whole, recorded = sk.record(compiled, x, ["1.spikes"])
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(second, third)
    assert set(recorded) == {"1.spikes"}


@pytest.mark.slow
@TORCH_INTERNAL
@pytest.mark.parametrize("make", [feedforward, Residual])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_inductor(make, layout):
    x = torch.randn(5, 2, 2, 6, 6)
    if layout == "channels last":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    check(make(), x, "inductor")


@pytest.mark.slow
@TORCH_INTERNAL
def test_inductor_on_the_rest_of_the_family():
    check(family(), torch.randn(5, 2, 4), "inductor")


@pytest.mark.slow
@TORCH_INTERNAL
def test_inductor_trains_a_whole_network():
    check_training(normalised(), "inductor", (5, 3, 9))


@pytest.mark.slow
@TORCH_INTERNAL
def test_inductor_on_a_loop_of_a_users_own():
    check(Recurrent(), torch.randn(4, 2, 4), "inductor")


@pytest.mark.slow
@TORCH_INTERNAL
def test_other_lengths_and_batches_of_a_compiled_network():
    net = feedforward()
    compiled = torch.compile(net, fullgraph=True)
    for steps, batch in ((5, 2), (3, 4), (8, 3), (6, 7)):
        x = torch.randn(steps, batch, 2, 6, 6)
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-6)
