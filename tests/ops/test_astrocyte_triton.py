"""The astrocytes' Triton kernels against the reference: on the GPU where there is one, else in the interpreter."""

from __future__ import annotations

import itertools

import pytest
import torch

import spikekit as sk
from spikekit import surrogate
from spikekit.ops.astrocyte import AstrocyteRule, astrocyte_lif, astrocyte_reference, gpu
from spikekit.ops.lif import LIFRule, state_dtype

CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))
ACTS = ("gain", "threshold", "plasticity")
SOFT = LIFRule("soft", False, False, surrogate.ATan())
USED = (True, False, True, True, True)


@pytest.fixture
def check(triton_device, equal_to_reference, monkeypatch):
    calls = []
    backward = gpu.backward
    monkeypatch.setattr(gpu, "backward", lambda *i: calls.append(1) or backward(*i))

    def checked(rule, astrocyte, inputs, use=USED):
        here = [None if a is None else a.to(triton_device) for a in inputs]
        fast = lambda *i: astrocyte_lif(*i, rule, astrocyte, keep_traces=True)  # noqa: E731
        found = equal_to_reference(fast, lambda *i: astrocyte_reference(*i, rule, astrocyte), here, use)
        assert calls
        return found

    return checked


def inputs(shape, dtype=torch.float32, rest=False, parameter=(), own=1.0, domains=2, scales=3):
    state, batch = state_dtype(dtype), shape[1]
    v0 = None if rest else torch.randn(shape[1:], dtype=state)
    c0 = None if rest else torch.rand(batch, domains, scales, dtype=state)
    sensed = None if own == 1 else torch.rand(shape[0], batch, domains, dtype=state)
    parameters = [torch.rand(parameter, dtype=state) * 0.5 + 0.4 for _ in range(3)]
    glia = [
        torch.rand(domains, scales, dtype=state) * 0.8 + 0.1,
        torch.randn(domains, scales, dtype=state) * 3,
        torch.randn(domains, dtype=state) * 0.3,
        torch.rand(domains, dtype=state) * 0.8 - 0.9,
    ]
    return [(torch.randn(shape) * 0.7 + 0.5).to(dtype), v0, c0, sensed, *parameters, *glia]


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
@pytest.mark.parametrize(("acts_on", "own"), [("gain", 0.0), ("threshold", 0.5)])
def test_rules(reset, inclusive, detach, acts_on, own, check):
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    tensors = inputs((3, 2, 4, 3), torch.float64, own=own, parameter=(4, 1) if inclusive else ())
    (spikes, *_), _ = check(rule, AstrocyteRule(acts_on, own), tensors)
    assert 0.05 < spikes.mean() < 0.95


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("acts_on", ACTS)
@pytest.mark.parametrize("rest", [True, False])
def test_dtypes(dtype, acts_on, rest, check):
    outputs, _ = check(SOFT, AstrocyteRule(acts_on, 1.0), inputs((3, 2, 10), dtype, rest))
    assert [y.dtype for y in outputs] == [dtype, *[torch.float32] * 4]


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize(
    ("shape", "domains", "scales"),
    [((1, 1, 1), 1, 1), ((3, 3, 4), 4, 2), ((4, 1, 33), 3, 5), ((2, 2, 1100), 1, 2), ((2, 1, 3, 36, 36), 1, 3)],
    ids=str,
)
@pytest.mark.parametrize("per_neuron", [False, True])
def test_shapes(shape, domains, scales, per_neuron, check):
    parameter = shape[2:] if per_neuron else ()
    tensors = inputs(shape, torch.float64, parameter=parameter, domains=domains, scales=scales)
    check(SOFT, AstrocyteRule("gain", 1.0), tensors)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("wanted", range(5))
@pytest.mark.parametrize("acts_on", ACTS)
def test_gradients_from_each_output_alone(wanted, acts_on, triton_device, equal_to_reference):
    """That of the membranes is left to plain torch."""
    rule, use = AstrocyteRule(acts_on, 0.5), tuple(index == wanted for index in range(5))
    here = [a.to(triton_device) for a in inputs((5, 2, 6), torch.float64, own=0.5)]
    equal_to_reference(
        lambda *i: astrocyte_lif(*i, SOFT, rule, keep_traces=True),
        lambda *i: astrocyte_reference(*i, SOFT, rule),
        here,
        use,
    )


@pytest.mark.parametrize("curve", [surrogate.Sigmoid(), surrogate.Rectangle(0.9), surrogate.SechBump()], ids=str)
def test_other_surrogates(curve, check):
    check(LIFRule("soft", False, False, curve), AstrocyteRule("threshold", 1.0), inputs((5, 2, 8)))


def test_many_steps_on_many_neurons(triton_device):
    """Spikes that feed back on one another: one bit that differs would be seen."""
    on_gpu = triton_device == "cuda"
    shape, domains = ((500, 8, 4096), 4) if on_gpu else ((40, 1, 200), 2)
    tensors = [None if a is None else a.to(triton_device) for a in inputs(shape, own=0.5, domains=domains)]
    tensors[7] = torch.exp(-1 / torch.tensor([[5.0, 70.0, 300.0]] * domains, device=triton_device))
    rule = AstrocyteRule("gain", 0.5)
    with torch.no_grad():
        found = astrocyte_lif(*tensors, SOFT, rule, keep_traces=True)
        expected = astrocyte_reference(*tensors, SOFT, rule)
    assert all(map(torch.equal, found, expected))


def test_larger_domains_go_another_way(triton_device):
    x = torch.zeros(1, 1, gpu.LARGEST + 1, device=triton_device)
    assert gpu.supports(x[..., 1:], 1, surrogate.ATan().encode()[0])
    assert not gpu.supports(x, 1, surrogate.ATan().encode()[0])
    lif = sk.LIF(astrocyte=sk.Astrocyte(1)).to(triton_device)
    assert lif(x + 2).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("acts_on", ACTS)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_a_strength_of_zero_is_the_plain_neuron_on_a_gpu(acts_on, reset):
    x = torch.randn(50, 8, 512, device="cuda") * 0.5 + 0.3
    modulated = sk.LIF(0.9, reset=reset, astrocyte=sk.Astrocyte(8, acts_on=acts_on, strength=0.0)).cuda()
    with torch.no_grad():
        assert torch.equal(modulated(x), sk.LIF(0.9, reset=reset).cuda()(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cpu_and_gpu_fire_the_same_spikes():
    """The decays are computed by each processor's exp, whose last bit may differ: they are handed over."""
    tensors = inputs((200, 4, 256), own=0.5)
    rule = AstrocyteRule("threshold", 0.5)
    with torch.no_grad():
        here = astrocyte_lif(*tensors, SOFT, rule, keep_traces=True)
        there = astrocyte_lif(*(a.cuda() for a in tensors), SOFT, rule, keep_traces=True)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_cuda_graph_records_a_training_step():
    neuron = sk.LIF(learn=("beta", "threshold"), astrocyte=sk.Astrocyte(2)).cuda()
    x = torch.randn(19, 2, 64, device="cuda", requires_grad=True)

    def step():
        return torch.autograd.grad(neuron(x).square().sum(), [x, *neuron.parameters()])

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = step()
    x.data.copy_(torch.randn_like(x))
    graph.replay()
    for found, expected in zip(recorded, step(), strict=True):
        torch.testing.assert_close(found, expected)
