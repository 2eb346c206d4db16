"""The MPBN operation: the C kernels and the pure torch path against the reference, and the reference against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from spikekit import surrogate
from spikekit.ops import paths
from spikekit.ops.lif import LIFRule, state_dtype, step
from spikekit.ops.mpbn import cpu, mpbn, mpbn_reference, reference
from tests.ops.layouts import channels_last, contiguous, every_second_neuron, expanded, time_innermost

EPS = 1e-5
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Shape of the drive, and whether each neuron has statistics of its own.
KINDS = {
    "dense": ((6, 9, 5), False),
    "wide": ((3, 6, 150), False),
    "conv, a channel": ((4, 3, 5, 3, 7), False),
    "conv, a neuron": ((4, 7, 2, 3, 5), True),
    "one step": ((1, 4, 3), False),
}
PATHS = ["auto", pytest.param("torch", id="plain_torch")]


LAYOUTS = [contiguous, channels_last, time_innermost, every_second_neuron, expanded]


@pytest.fixture
def path():
    yield paths.set_path
    paths.set_path("auto")


def drive(kind, dtype=torch.float32, layout=contiguous):
    return layout((torch.randn(KINDS[kind][0]) + 0.4).to(dtype))


def affine(x, each):
    shape = x.shape[2:] if each else x.shape[2:3]
    return [(torch.rand(shape) + 0.5).to(state_dtype(x.dtype)), torch.randn(shape).to(state_dtype(x.dtype)) / 3]


def statistics(x, each):
    """Running mean and variance."""
    shape = x.shape[2:] if each else x.shape[2:3]
    return [torch.rand(shape).to(state_dtype(x.dtype)) + 0.2 for _ in range(2)]


def numbers(x, *values):
    return [torch.tensor(value, dtype=state_dtype(x.dtype)) for value in values]


def check(equal_to_reference, inputs, each, rule, training=True, keep=False, use=(True, True, True)):
    """Spikes, membranes where they are kept, and the last v, bit for bit; gradients; the statistics."""
    chosen = (0, 1, 2) if keep else (0, 2)
    rest = (*statistics(inputs[0], each), training, 0.3, EPS, rule)

    def outputs(op, **settings):
        def run(*leaves):
            found = op(*leaves, *rest, **settings)
            return tuple(found[index] for index in chosen)

        return run

    equal_to_reference(outputs(mpbn, keep_membranes=keep), outputs(mpbn_reference), inputs, use)
    found, expected = (op(*inputs, *rest)[3:] for op in (mpbn, mpbn_reference))
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7)
        assert (value.numel() > 0) == training


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equal_to_reference(which, kind, reset, detach, training, dtype, equal_to_reference, path):
    path(which)
    x, each = drive(kind, dtype), KINDS[kind][1]
    v0 = torch.randn(x.shape[1:], dtype=dtype)
    inputs = [x, v0, *numbers(x, 0.9, 0.3, 0.7), *affine(x, each)]
    rule = LIFRule(reset, False, detach, surrogate.ATan())
    check(equal_to_reference, inputs, each, rule, training)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["dense", "conv, a channel", "conv, a neuron"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts_and_dtypes(which, layout, kind, dtype, equal_to_reference, path):
    path(which)
    x, each = drive(kind, dtype, layout), KINDS[kind][1]
    v0 = channels_last(torch.randn(1, *x.shape[1:]))[0].to(state_dtype(dtype))
    inputs = [x, v0, *numbers(x, 0.9, 0.3, 0.7), *affine(x, each)]
    check(equal_to_reference, inputs, each, LIFRule("soft", False, False, surrogate.Triangle()), keep=True)


PARAMETERS = {
    "a channel": lambda shape: torch.rand(shape[0], *([1] * (len(shape) - 1))),
    "a neuron": lambda shape: torch.rand(shape),
    "a neuron, transposed": lambda shape: torch.rand(tuple(reversed(shape))).permute(
        tuple(reversed(range(len(shape))))
    ),
}


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("kind", ["dense", "conv, a channel", "conv, a neuron"])
@pytest.mark.parametrize("values", PARAMETERS)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("rest", [False, True])
def test_parameters(which, layout, kind, values, reset, rest, equal_to_reference, path):
    path(which)
    x, each = drive(kind, torch.float64, layout), KINDS[kind][1]
    beta, threshold, quantum = (PARAMETERS[values](x.shape[2:]).double() * 0.8 + 0.1 for _ in range(3))
    v0 = None if rest else torch.randn(x.shape[1:], dtype=torch.float64)
    rule = LIFRule(reset, False, False, surrogate.Sigmoid())
    check(equal_to_reference, [x, v0, beta, threshold, quantum, *affine(x, each)], each, rule)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("use", [(True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradients_of_one_output(which, use, training, equal_to_reference, path):
    path(which)
    x = drive("conv, a channel", torch.float64)
    inputs = [x, torch.randn(x.shape[1:], dtype=x.dtype), *numbers(x, 0.9, 0.3, 0.7), *affine(x, False)]
    rule = LIFRule("soft", False, False, surrogate.ATan())
    check(equal_to_reference, inputs, False, rule, training, keep=True, use=use)


@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("wanted", range(7))
def test_one_gradient_at_a_time(which, wanted, poison, path):
    rule = LIFRule("soft", False, False, surrogate.ATan())
    x = drive("dense")
    inputs = [x, torch.randn(x.shape[1:]), *(torch.rand(5) + 0.2 for _ in range(5))]
    path(which)
    grads = []
    for op in (mpbn, mpbn_reference):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(inputs)]
        spikes, _, v, *_ = op(*leaves, torch.zeros(5), torch.ones(5), True, 0.1, EPS, rule)
        ((spikes * x).sum() + v.square().sum()).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(7)]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("learn", [False, True])
def test_gradients_through_recorded_membranes(which, each, learn, poison, path):
    rule = LIFRule("soft", False, False, surrogate.ATan())
    x = drive("dense", torch.float64)
    inputs = [x, torch.randn_like(x[0]), *(torch.rand(5 if each else (), dtype=x.dtype) + 0.2 for _ in range(3))]
    inputs += affine(x, True)
    path(which)
    grads = []
    for op, settings in ((mpbn, {"keep_membranes": True}), (mpbn_reference, {})):
        leaves = [a.clone().requires_grad_(learn or index < 2) for index, a in enumerate(inputs)]
        spikes, membranes, *_ = op(*leaves, *statistics(x, True), True, 0.1, EPS, rule, **settings)
        loss = (spikes * x).sum() + (membranes * x).sum()
        grads.append(torch.autograd.grad(loss, [leaf for leaf in leaves if leaf.requires_grad]))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("which", PATHS)
@pytest.mark.parametrize("inclusive", [False, True])
def test_at_the_threshold(which, inclusive, path):
    """Given statistics make the decision exact: mean 0, var + eps = 1, so m = u."""
    path(which)
    x = torch.tensor([[[0.5, 0.25]]])
    one, zero = torch.ones(2), torch.zeros(2)
    rule = LIFRule("none", inclusive, False, surrogate.ATan())
    parameters = [torch.tensor(value) for value in (0.9, 0.5, 0.5)]
    spikes = mpbn(x, None, *parameters, one, zero, zero, one / 2, False, 0.1, 0.5, rule)[0]
    assert spikes.flatten().tolist() == [float(inclusive), 0.0]


@pytest.mark.parametrize("curve", [surrogate.ATan(1.0), surrogate.Sigmoid(2.0)], ids=str)
@pytest.mark.parametrize("op", [mpbn_reference, mpbn], ids=["reference", "sequence"])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradcheck_on_a_smooth_spike(curve, op, reset, each, training, monkeypatch, path, poison):
    """With the surrogate's own step in place of the spike, its gradient is the true one: finite differences judge."""
    path("torch")
    monkeypatch.setattr(reference, "fire", lambda m, threshold, rule: curve.antiderivative(m - threshold))
    monkeypatch.setattr(step, "spike", lambda m, threshold, _, out: out.copy_(curve.antiderivative(m - threshold)))
    rule = LIFRule(reset, False, False, curve)
    x = torch.randn(3, 3, 2, 2, dtype=torch.float64)
    parameters = [torch.rand(2, 1, dtype=torch.float64) * 0.5 + 0.4 for _ in range(3)]
    inputs = [x, torch.randn(3, 2, 2, dtype=torch.float64), *parameters, *affine(x, each)]
    rest = (*statistics(x, each), training, 0.1, EPS, rule)

    def outputs(*args):
        return op(*args, *rest, **({"keep_membranes": True} if op is mpbn else {}))[:3]

    assert torch.autograd.gradcheck(outputs, [a.requires_grad_() for a in inputs])


@pytest.mark.parametrize("shape", [(5, 8, 3), (4, 6, 3, 5, 2)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_reference_is_batch_norm_of_the_membrane(shape, training):
    """The loop as the authors write it, on `functional.batch_norm`, with its gradients and running statistics."""
    rule = LIFRule("hard", False, False, surrogate.ATan())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.rand(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mean, var = torch.rand(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    parameters = [torch.tensor(value, dtype=torch.float64) for value in (0.25, 0.5, 0.5)]
    rest = (mean, var, training, 0.2, EPS, rule)
    spikes, membranes, _, _, _, *after = mpbn_reference(x, None, *parameters, weight, bias, *rest)

    v, trains, running = 0, [], (mean.clone(), var.clone())
    for t, x_t in enumerate(x):
        u = 0.25 * v + x_t
        m = functional.batch_norm(u, *running, weight, bias, training, 0.2, EPS)
        s = reference.fire(m, torch.tensor(0.5, dtype=torch.float64), rule)
        v = u * (1 - s)
        trains.append(s)
        torch.testing.assert_close(u, membranes[t])
    if training:
        torch.testing.assert_close(tuple(after), running)
    upstream = torch.randn_like(x)
    assert torch.equal(torch.stack(trains), spikes)
    expected = torch.autograd.grad((torch.stack(trains) * upstream).sum(), (x, weight, bias))
    for found, wanted in zip(torch.autograd.grad((spikes * upstream).sum(), (x, weight, bias)), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def all_of_it(shape, layout=contiguous):
    x = layout(torch.randn(shape)).requires_grad_()
    leaves = [x, *(torch.rand(shape[2], requires_grad=True) for _ in range(2))]
    parameters = [torch.full((), value, requires_grad=True) for value in (0.9, 0.4, 0.6)]
    rule = LIFRule("soft", False, False, surrogate.ATan())
    found = mpbn(x, None, *parameters, *leaves[1:], *statistics(x, False), True, 0.1, EPS, rule)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return [*found[:1], *found[2:], *torch.autograd.grad((found[0] * upstream).sum(), (*leaves, *parameters))]


@pytest.mark.parametrize("shape", [(5, 64, 300), (5, 8, 16, 12, 12)], ids=str)
@pytest.mark.parametrize("layout", [contiguous, channels_last])
def test_threads_and_tiles_do_not_show(shape, layout, monkeypatch):
    threads, results = torch.get_num_threads(), []
    try:
        for count, tile in ((1, 1 << 15), (2, 1 << 15), (2, 1)):
            torch.set_num_threads(count)
            monkeypatch.setattr(cpu, "_TILE", tile)
            torch.manual_seed(0)
            results.append(all_of_it(shape, layout))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_a_large_offset_keeps_its_variance(path):
    """The variance is taken around the mean: E[u²] - E[u]² would leave nothing of it in float32."""
    x = torch.randn(1, 4096, 3) * 0.01 + 1000
    parameters = [torch.tensor(value) for value in (0.9, 0.4, 0.6)]
    rule = LIFRule("soft", False, False, surrogate.ATan())
    for which in ("auto", "torch"):
        path(which)
        rest = (torch.zeros(3), torch.ones(3), True, 0.1, EPS, rule)
        found = mpbn(x, None, *parameters, torch.ones(3), torch.zeros(3), *rest)
        mean, var = found.means, found.variances
        torch.testing.assert_close(var[0].double(), x[0].double().var(0, correction=0), rtol=1e-4, atol=0)
        torch.testing.assert_close(mean[0].double(), x[0].double().mean(0), rtol=1e-7, atol=0)


def test_spikes_of_torchs_own_batch_norm_but_for_ties():
    """Its sums are rounded differently. Given our membrane, step by step, only a decision at a tie may differ."""
    x = torch.randn(20, 64, 200) * 0.5 + 0.15
    weight, bias, mean, var = torch.rand(200) + 0.5, torch.randn(200) / 3, torch.zeros(200), torch.ones(200)
    rule = LIFRule("hard", False, True, surrogate.ATan())
    parameters = [torch.tensor(value) for value in (0.25, 0.5, 0.5)]
    found = mpbn(x, None, *parameters, weight, bias, mean, var, True, 0.1, EPS, rule, keep_membranes=True)
    m = torch.stack([functional.batch_norm(u, mean, var, weight, bias, True, 0.1, EPS) for u in found.membranes])
    differs = (m > 0.5) != found.spikes.bool()
    assert bool(((m - 0.5).abs()[differs] < 1e-5).all())
    assert 0.05 < found.spikes.mean() < 0.95
    torch.testing.assert_close((found.mean, found.var), (mean, var), rtol=1e-5, atol=1e-6)
