"""Everything that computes, on the CPU and, where there is one, on the GPU: the same numbers as the CPU's reference."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.ops import paths
from spikekit.ops.lif import cpu as lif_cpu
from spikekit.train import CrossEntropy, Trainer

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
pytestmark = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])

NEURONS = {
    "lif": lambda: sk.LIF(0.9, learn=("beta", "threshold")),
    "hard": lambda: sk.LIF(0.9, reset="hard", surrogate=sk.surrogate.Triangle(1.0)),
    "inclusive": lambda: sk.LIF(0.5, inclusive=True, detach_reset=True),
    "channels": lambda: sk.LIF(torch.linspace(0.5, 0.95, 6), torch.linspace(0.5, 1.5, 6)),
    "mpr": lambda: sk.LIF(1.0, 0.5, reset_quantum=1.0, rectifier=sk.MPR()),
    "mpbn": lambda: sk.LIF(0.25, 0.5, norm=sk.MPBN(6)).eval(),
    "if": lambda: sk.IF(),
    "li": lambda: sk.LI(0.9),
    "cuba": lambda: sk.CUBALIF(0.8, 0.9),
    "alif": lambda: sk.ALIF(),
    "refractory": lambda: sk.RefractoryLIF(period=2),
    "sigma-delta": lambda: sk.SigmaDelta(0.25),
}


@pytest.fixture(autouse=True)
def default_path():
    before = paths.forced_path()
    yield
    paths.set_path(before)


def gradients(neuron, x, weights):
    """Output of both halves of a sequence with the state carried, and every gradient; all on the CPU."""
    neuron.zero_grad()
    x = x.detach().requires_grad_()
    first, state = sk.run(neuron, x[:7])
    second, _ = sk.run(neuron, x[7:], state)
    y = torch.cat((first, second))
    (y * weights).sum().backward()
    return y.detach().cpu(), [g.cpu() for g in (x.grad, *(p.grad for p in neuron.parameters() if p.grad is not None))]


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_give_the_reference_loops_spikes_and_gradients(device, name):
    neuron = NEURONS[name]()
    x, weights = torch.randn(19, 4, 6, 5, 7) * 0.7 + 0.2, torch.randn(19, 4, 6, 5, 7)
    there = copy.deepcopy(neuron).to(device)
    y, grads = gradients(there, x.to(device), weights.to(device))
    paths.set_path("reference")
    expected, expected_grads = gradients(neuron, x, weights)
    assert torch.equal(y, expected)
    assert 0 < y.abs().mean() < 10
    assert len(grads) == len(expected_grads)
    for g, h in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(g, h, rtol=1e-4, atol=1e-5 * float(h.abs().max()))


@pytest.mark.parametrize("name", NEURONS)
def test_the_default_device_is_nothing_to_neurons(device, name):
    """Peers ask for `torch.set_default_device`; a tensor of our own that followed it would be on another device."""
    neuron = NEURONS[name]().to(device)
    x = torch.randn(5, 2, 6, 3, 3, device=device, requires_grad=True)
    y = neuron(x)
    (expected,) = torch.autograd.grad(y.sum(), x)
    with torch.device("cpu" if device == "cuda" else "meta"):
        again, _ = sk.run(neuron, x)
        (g,) = torch.autograd.grad(again.sum(), x)
    assert torch.equal(again, y)
    assert torch.equal(g, expected)


def test_the_kernels_serve(device):
    """Else all of this would pass in plain torch."""
    operators = {"cpu": "Backward_lifBackward", "cuda": "Backward_lif_fusedBackward"}
    y = sk.LIF()(torch.randn(5, 2, 6, device=device, requires_grad=True))
    assert type(y.grad_fn).__name__ == operators[device]
    assert lif_cpu.support(lif_cpu.KERNELS, torch.float32, sk.LIF().rule.surrogate.encode()[0])


def test_recurrent_neurons(device):
    """Weights and drives in eighths: sums are exact in any order, so that spikes can be compared."""
    neuron = sk.RecurrentLIF(24, 0.5)
    with torch.no_grad():
        neuron.recurrent.weight.copy_(torch.randint(-4, 5, (24, 24)) / 8)
    x = torch.randint(-8, 17, (12, 3, 24)) / 8
    y = copy.deepcopy(neuron).to(device)(x.to(device)).cpu()
    paths.set_path("reference")
    assert torch.equal(y, neuron(x))
    assert 0 < y.mean() < 1


def network():
    return sk.Sequential(
        nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), sk.LIF(0.8), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(8 * 25, 16), sk.LIF(0.8), nn.Linear(16, 4), sk.LI(0.9),
    )  # fmt: skip


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        labels = torch.randint(4, (16,), generator=generator)
        chance = torch.full((10, 16, 2, 12, 12), 0.02)
        for sample, label in enumerate(labels):
            chance[:, sample, :, 3 * int(label) : 3 * int(label) + 3] = 0.4
        yield torch.bernoulli(chance, generator=generator), labels


def test_a_network_trains(device):
    net = network()
    trainer = Trainer(net, accelerator=device, lr=0.01, progress=False)
    history = trainer.fit(list(batches(12)), list(batches(3, seed=1)), epochs=4)
    assert history[-1].val.accuracy > 0.9
    assert history[-1].train.loss < 0.5 * history[0].train.loss


def test_compiled_networks_give_the_same_spikes(device):
    net = sk.Sequential(nn.Linear(8, 8), sk.LIF(0.9), nn.Linear(8, 4), sk.LI(0.9)).to(device)
    x = torch.randn(6, 3, 8, device=device)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))
    torch._dynamo.reset()


def test_half_precision_keeps_the_membrane(device):
    net = network().to(device)
    (x, _), *_ = batches(1)
    with torch.autocast(device, torch.bfloat16):
        y, state = sk.run(net, x.to(device))
    assert y.isfinite().all()
    assert all(value.dtype == torch.float32 for entry in state.values() for value in entry.values())


def test_integers_are_the_cpus(device):
    net = network().eval()
    (x, _), *_ = batches(1)
    net(x)
    chip = sk.export.to_loihi(net.to(device), calibration=x.to(device))
    assert torch.equal(chip.simulate(x.to(device)).cpu(), chip.simulate(x))


@pytest.mark.parametrize("rule", ["bptt", "ottt", "dsr"])
def test_learning_rules_give_the_cpus_gradients(device, rule):
    rules = {"bptt": sk.learning.BPTT, "ottt": sk.learning.OTTT, "dsr": sk.learning.DSR}
    net = sk.Sequential(
        nn.Linear(12, 20, bias=False), sk.LIF(0.5, detach_reset=True), nn.Linear(20, 4, bias=False)
    ).double()
    x, labels = (torch.rand(8, 6, 12, dtype=torch.float64) < 0.4).double(), torch.arange(6) % 4

    def step(net, x, labels):
        net.zero_grad()
        rules[rule]()(net, x, partial(CrossEntropy(), target=labels))
        return [p.grad.cpu() for p in net.parameters()]

    there = step(copy.deepcopy(net).to(device), x.to(device), labels.to(device))
    for g, h in zip(there, step(net, x, labels), strict=True):
        torch.testing.assert_close(g, h, rtol=1e-9, atol=1e-12)


def test_continual_learning_projects(device):
    net = sk.Sequential(nn.Linear(24, 32, bias=False), sk.LIF(0.5, detach_reset=True), nn.Linear(32, 4, bias=False))
    net.to(device)
    hlop = sk.continual.HLOP(net, units=[4, 6])
    old = (torch.rand(6, 16, 24, device=device) < 0.2).float()
    labels = torch.arange(16, device=device) % 4
    for task in range(2):
        hlop.begin_task()
        optimizer = torch.optim.SGD(hlop.parameters(), lr=0.1)
        before = [p.detach().clone() for p in net.parameters()]
        for _ in range(20):
            x = old if task == 0 else (torch.rand(6, 16, 24, device=device) < 0.2).float()
            hlop.step(x, partial(CrossEntropy(), target=labels), optimizer, sk.learning.BPTT())
        hlop.end_task()
    assert all(not torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert max(hlop.drift.values() if isinstance(hlop.drift, dict) else hlop.drift) < 1e-4
