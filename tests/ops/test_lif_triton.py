"""The LIF's Triton kernels against the reference: on the GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import spikekit as sk
from spikekit import surrogate
from spikekit.ops.lif import LIFRule, gpu, lif, lif_reference, state_dtype
from spikekit.surrogate import decode
from tests.ops.layouts import channels_last, expanded, time_innermost

CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))
SURROGATES = [
    surrogate.ATan(),
    surrogate.Sigmoid(),
    surrogate.FastSigmoid(5.0),
    surrogate.Triangle(0.7),
    surrogate.Rectangle(0.9),
    surrogate.StraightThrough(),
    surrogate.SechBump(),
    surrogate.Exponential(),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# No multiples of the 64 neurons of a program, nor of the steps of a chunk.
SHAPES = [(1, 1, 1), (3, 1), (9, 2, 35), (8, 64), (17, 2, 3, 2, 2)]


@pytest.fixture
def check(triton_device, equal_to_reference):
    """Hold the kernels against the reference; the outputs are spikes and the last v."""

    def checked(rule, inputs, use=(True, True)):
        def fast(*tensors):
            spikes, membranes, v = lif(*tensors, rule)
            assert membranes is None
            assert type(spikes.grad_fn).__name__ in ("Backward_lif_fusedBackward", "NoneType")
            return spikes, v

        def reference(*tensors):
            spikes, _, v = lif_reference(*tensors, rule)
            return spikes, v

        here = [None if a is None else a.to(triton_device) for a in inputs]
        return equal_to_reference(fast, reference, here, use)

    return checked


def scalars(dtype, *values):
    return [torch.tensor(value, dtype=state_dtype(dtype)) for value in values]


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("curve", SURROGATES, ids=lambda curve: type(curve).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_surrogates(curve, dtype, check):
    x = torch.randn(5, 2, 35, dtype=dtype) + 0.5
    check(LIFRule("soft", False, False, curve), [x, None, *scalars(dtype, 0.8, 1.0, 0.75)])


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
def test_rules(reset, inclusive, detach, check):
    inputs = [torch.randn(9, 2, 5) + 0.5, torch.randn(2, 5), *scalars(torch.float32, 0.8, 1.0, 0.75)]
    (spikes, _), grads = check(LIFRule(reset, inclusive, detach, surrogate.ATan()), inputs)
    assert 0.1 < spikes.mean() < 0.9
    assert all(g.abs().max() > 0 for g in grads[:4])
    assert bool(grads[4].abs().max() > 0) == (reset == "soft")


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("curve", [surrogate.Triangle(), surrogate.Rectangle(), surrogate.SechBump()], ids=str)
@pytest.mark.parametrize("inclusive", [False, True])
def test_where_the_membrane_meets_the_threshold(curve, inclusive, check):
    def grid(*shape):
        """Multiples of a quarter: the membrane meets the threshold, and the surrogate's kinks, exactly."""
        return torch.randint(-4, 10, shape).double() / 4

    check(
        LIFRule("soft", inclusive, False, curve),
        [grid(9, 4, 5), grid(4, 5), *scalars(torch.float64, 1.0, 1.0, 1.0)],
    )


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "rest"), list(zip(SHAPES, itertools.cycle([True, False]))), ids=str)
def test_shapes(dtype, shape, rest, check):
    x = (torch.randn(shape) + 0.4).to(dtype)
    v0 = None if rest else torch.randn(shape[1:], dtype=state_dtype(dtype))
    rule = LIFRule("hard", False, False, surrogate.Triangle())
    (spikes, v), _ = check(rule, [x, v0, *scalars(dtype, 0.9, 1.0, 1.0)])
    assert (spikes.dtype, v.dtype) == (dtype, state_dtype(dtype))


PARAMETERS = {
    "per channel": lambda: torch.rand(3, 1, 1),
    "per neuron": lambda: torch.rand(3, 4, 5),
    "per neuron, transposed": lambda: torch.rand(5, 4, 3).permute(2, 1, 0),
    "per row": lambda: torch.rand(1, 4, 1),
    "per channel and column": lambda: torch.rand(3, 1, 5),
    "one in a tensor": lambda: torch.rand(1, 1, 1),
}


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("layout", [torch.clone, channels_last, time_innermost, expanded])
@pytest.mark.parametrize("kind", PARAMETERS)
def test_parameters_and_layouts(layout, kind, check):
    beta, threshold, quantum = (PARAMETERS[kind]() * scale + 0.1 for scale in (0.8, 1.0, 1.0))
    x, v0 = layout(torch.randn(3, 2, 3, 4, 5) + 0.4), torch.randn(2, 3, 4, 5)
    check(LIFRule("soft", False, False, surrogate.ATan()), [x, v0, beta, threshold, quantum])


@pytest.mark.usefixtures("poison")
def test_parameters_of_different_kinds(check):
    inputs = [torch.randn(5, 2, 3, 4, 5) + 0.4, None, torch.rand(3, 1, 1), torch.rand(3, 4, 5) + 0.2, torch.tensor(0.7)]
    check(LIFRule("soft", True, False, surrogate.Sigmoid()), inputs)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("use", [(True, False), (False, True)], ids=["spikes", "last v"])
def test_gradients_from_each_output_alone(use, check):
    inputs = [torch.randn(9, 2, 3) + 0.5, torch.randn(2, 3), *scalars(torch.float32, 0.8, 1.0, 0.9)]
    check(LIFRule("soft", False, False, surrogate.ATan()), inputs, use)


@pytest.mark.usefixtures("poison")
def test_without_gradients_of_parameters(triton_device):
    x = torch.randn(11, 2, 5, device=triton_device) + 0.5
    values = scalars(torch.float32, 0.8, 1.0, 0.9)
    rule = LIFRule("soft", False, False, surrogate.ATan())
    grads = []
    for op in (lif, lif_reference):
        leaf = x.clone().requires_grad_()
        # The parameters stay on the CPU, as those of a network that was not moved.
        grads += torch.autograd.grad((op(leaf, None, *values, rule)[0] * x).sum(), leaf)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-5, atol=1e-6)


# NumPy, which the interpreter computes with, warns of what is wanted here.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_drive_that_is_not_finite_reaches_the_last_membrane(triton_device):
    """It is looked for there."""
    for reset in ("soft", "hard", "none"):
        x = torch.zeros(10, 1, 3, device=triton_device)
        x[2, 0, 1] = float("inf")
        x[3, 0, 2] = float("nan")
        values = [a.to(triton_device) for a in scalars(torch.float32, 0.9, 1.0, 1.0)]
        v = lif(x, None, *values, LIFRule(reset, False, False, surrogate.ATan()))[2]
        assert v.isfinite().tolist() == [[True, False, False]]


def test_every_shipped_surrogate_has_a_kernel(triton_device):
    for curve in SURROGATES:
        key, numbers = curve.encode()
        assert decode(key, numbers) == curve
        assert gpu.supports(torch.float32, key)


def test_checkpoints_are_the_states_between_chunks(triton_device):
    x = torch.randn(2 * gpu.CHUNK + 1, 5, device=triton_device) + 0.5
    values = [a.to(triton_device) for a in scalars(torch.float32, 0.9, 1.0, 0.8)]
    _, kept, _ = gpu.forward(x, None, values, "soft", False, gpu.CHUNK)
    rule = LIFRule("soft", False, False, surrogate.ATan())
    expected = [lif_reference(x[:t], None, *values, rule)[2] for t in (gpu.CHUNK, 2 * gpu.CHUNK)]
    assert torch.equal(kept, torch.stack(expected))


@pytest.mark.parametrize("rest", [True, False])
def test_opcheck(rest, triton_device):
    x = channels_last(torch.randn(9, 2, 3, 2, 2)).to(triton_device).requires_grad_()
    v0 = None if rest else torch.randn(2, 3, 2, 2, device=triton_device, requires_grad=True)
    parameters = [(torch.rand(3, 1, 1, device=triton_device) + 0.2).requires_grad_() for _ in range(3)]
    key, numbers = surrogate.ATan().encode()
    torch.library.opcheck(
        torch.ops.spikekit.lif_fused.default, (x, v0, *parameters, "soft", False, False, key, numbers, gpu.CHUNK)
    )


class Calls(TorchDispatchMode):
    """Counts what is asked of torch."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("values", [scalars(torch.float32, 0.9, 1.0, 0.8), list(torch.rand(3, 5))], ids=["one", "each"])
def test_nothing_waits_for_the_gpu(values, monkeypatch):
    """What would wait also forbids CUDA graphs: numbers read back, choices by content, copies between devices."""
    kernel = {name: defaultdict(lambda: lambda *args, **kwargs: None) for name in ("forward_kernel", "backward_kernel")}
    monkeypatch.setattr(gpu.KERNELS, "_module", SimpleNamespace(**kernel))
    x, v0 = torch.randn(19, 2, 5), torch.randn(2, 5)
    key, numbers = surrogate.ATan().encode()
    rule = ("soft", False)
    with Calls() as calls:
        spikes, kept, v = gpu.forward(x, v0, values, *rule, gpu.CHUNK)
        gpu.backward(spikes, v, x, kept, v0, values, *rule, False, key, numbers, gpu.CHUNK, True)
    assert calls.names["empty_like"] >= 4
    waiting = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_to_copy", "masked_select"}
    assert waiting & calls.names.keys() == set()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_cuda_graph_records_a_training_step():
    neuron = sk.LIF(learn=("beta", "threshold")).cuda()
    x = torch.randn(19, 2, 35, device="cuda", requires_grad=True)

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
        assert torch.equal(found, expected)
