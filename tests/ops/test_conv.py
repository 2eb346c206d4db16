"""The convolution event by event: torch's numbers to rounding, in any layout, whatever is zero or not finite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import conv2d as dense

import spikekit as sk
import spikekit.ops.conv as op
from spikekit.ops import paths
from spikekit.ops.conv import conv2d, cpu, events
from spikekit.ops.conv.choice import events_pay

RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}
LAST = torch.channels_last


@pytest.fixture
def always_events(monkeypatch):
    """Events whatever the size and density, and a list of the convolutions that were made so."""
    for dtype in RELATIVE:
        assert cpu.supports(dtype)  # and its self-test is over before anything is watched
    made = []

    def watched(name):
        function = getattr(cpu, name)

        def call(*args):
            result = function(*args)
            made.append((name, result is not None))
            return result

        return call

    monkeypatch.setattr(op, "large", lambda multiplications, gradient: True)
    monkeypatch.setattr(op, "events_pay", lambda *args, **kwargs: True)
    monkeypatch.setattr(events, "events_pay", lambda *args, **kwargs: True)
    for name in ("forward", "weight_gradient"):
        monkeypatch.setattr(cpu, name, watched(name))
    return made


def spikes(*shape, density=0.1, dtype=torch.float32, graded=False):
    x = (torch.rand(*shape) < density).to(dtype)
    return x * torch.randn(*shape, dtype=dtype) if graded else x


def compare(x, weight, bias, stride=(1, 1), padding=(0, 0), dilation=(1, 1), turned_gradient=False):
    """Outputs and all gradients beside torch's."""
    results = []
    for function in (conv2d, dense):
        leaves = [None if a is None else a.detach().requires_grad_() for a in (x, weight, bias)]
        y = function(*leaves, stride, padding, dilation)
        torch.manual_seed(1)
        upstream = torch.randn(y.shape, dtype=y.dtype)
        upstream = upstream.contiguous(memory_format=LAST) if turned_gradient else upstream
        results.append((y, *torch.autograd.grad(y, [a for a in leaves if a is not None], upstream)))
    for found, expected in zip(*results, strict=True):
        scale = max(float(expected.detach().abs().max()), 1e-3)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert float((found - expected).detach().abs().max()) <= RELATIVE[x.dtype] * scale
    return results[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_numbers_and_gradients_are_torchs(always_events, poison, dtype, density, last):
    x = spikes(9, 3, 10, 11, density=density, dtype=dtype, graded=True)
    x = x.contiguous(memory_format=LAST) if last else x
    weight, bias = torch.randn(20, 3, 3, 5, dtype=dtype), torch.randn(20, dtype=dtype)
    compare(x, weight, bias, (2, 1), (1, 2), turned_gradient=last)
    assert always_events == [("forward", True), ("weight_gradient", True)]


@given(
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(5, 9), st.integers(5, 9)),
    outer=st.sampled_from([1, 3, 16, 17, 32, 50, 64, 100]),
    taps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    density=st.floats(0, 1),
    bias=st.booleans(),
)
def test_any_shape(always_events, sizes, outer, taps, stride, padding, dilation, density, bias):
    weight = torch.randn(outer, sizes[1], *taps)
    compare(spikes(*sizes, density=density), weight, torch.randn(outer) if bias else None, stride, padding, dilation)


def test_operands_may_lie_anyhow(always_events):
    weight = torch.randn(3, 3, 6, 10).permute(3, 2, 0, 1)[::2]
    compare(spikes(6, 8, 7, 5).permute(1, 0, 3, 2), weight, torch.randn(10)[::2])
    compare(spikes(4, 3, 9, 9)[:, :, ::2, 1:], torch.randn(5, 3, 3, 3).contiguous(memory_format=LAST), None)
    compare(spikes(1, 3, 9, 9).expand(5, 3, 9, 9), torch.randn(5, 3, 3, 3), None)
    compare(spikes(5, 1, 9, 9).contiguous(memory_format=LAST), torch.randn(5, 1, 3, 3), None)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["x", "weight", "bias", "grad"])
def test_what_is_not_finite_comes_out_as_torch_gives_it(always_events, bad, where):
    x, weight, bias, upstream = spikes(4, 2, 6, 6), torch.randn(5, 2, 3, 3), torch.randn(5), torch.randn(4, 5, 4, 4)
    {"x": x, "weight": weight, "bias": bias, "grad": upstream}[where].view(-1)[3] = bad
    results = []
    for function in (conv2d, dense):
        leaves = [a.clone().requires_grad_() for a in (x, weight, bias)]
        y = function(*leaves, (1, 1), (0, 0), (1, 1))
        results.append((y, *torch.autograd.grad(y, leaves, upstream)))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(torch.isfinite(found), torch.isfinite(expected))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_an_image_is_the_same_whatever_else_is_in_the_batch(always_events):
    x, weight, bias = spikes(64, 2, 12, 12, graded=True), torch.randn(20, 2, 3, 3), torch.randn(20)
    rest = ((2, 2), (1, 1), (1, 1))
    whole = conv2d(x, weight, bias, *rest)
    order = torch.randperm(64)
    assert torch.equal(conv2d(x[order], weight, bias, *rest), whole[order])
    assert torch.equal(torch.cat([conv2d(part, weight, bias, *rest) for part in x.split(5)]), whole)


def test_threads_do_not_change_a_bit(always_events):
    x, weight, bias = spikes(100, 2, 20, 20, graded=True), torch.randn(20, 2, 3, 3), torch.randn(20)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = conv2d(x, weight.requires_grad_(), bias, (1, 1), (1, 1), (1, 1))
            results.append((y, *torch.autograd.grad(y.square().sum(), weight)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradients_of_gradients(always_events):
    x = spikes(2, 2, 4, 4, dtype=torch.float64, density=0.5, graded=True).requires_grad_()
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    rest = ((1, 2), (1, 0), (1, 1))
    torch.autograd.gradcheck(lambda *a: conv2d(*a, *rest), (x, weight, bias))
    torch.autograd.gradgradcheck(lambda *a: conv2d(*a, *rest), (x, weight, bias))


def test_what_it_does_not_serve_is_torchs(always_events):
    x, weight, rest = spikes(4, 2, 6, 6), torch.randn(5, 2, 3, 3), ((1, 1), (0, 0), (1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert conv2d(x, weight, None, *rest).dtype == torch.bfloat16
    assert conv2d(x.bfloat16(), weight.bfloat16(), None, *rest).dtype == torch.bfloat16
    assert conv2d(x.to("meta"), weight.to("meta"), None, *rest).is_meta
    mapped = torch.func.vmap(lambda image: conv2d(image[None], weight, None, *rest)[0])(x)
    torch.testing.assert_close(mapped, dense(x, weight))
    for wrong in (weight.double(), weight[:, :1], torch.randn(5, 2, 7, 7)):
        with pytest.raises(RuntimeError) as expected:
            dense(x, wrong, None, *rest)
        with pytest.raises(RuntimeError) as found:
            conv2d(x, wrong, None, *rest)
        assert str(found.value) == str(expected.value)
    paths.set_path("torch")
    try:
        assert torch.equal(conv2d(x, weight, None, *rest), dense(x, weight))
    finally:
        paths.set_path("auto")
    assert not always_events


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_opcheck(last, density):
    x = spikes(32, 2, 20, 20, density=density)
    x = (x.contiguous(memory_format=LAST) if last else x).requires_grad_()
    weight, bias = torch.randn(16, 2, 5, 5, requires_grad=True), torch.randn(16, requires_grad=True)
    steps = [2, 2, 2, 2, 1, 1]
    torch.library.opcheck(torch.ops.spikekit.conv2d.default, (x, weight, bias, steps))
    grad = torch.randn(32, 16, 10, 10)
    for needs in ([True, True, True], [False, True, False]):
        arguments = (grad, x.detach(), weight.detach(), steps, needs)
        torch.library.opcheck(torch.ops.spikekit.conv2d_backward.default, arguments)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 0), (3, 1), (5, 0), (5, 2)])
def test_the_gradient_of_the_input_however_the_upstream_lies(always_events, kernel, padding, last):
    """torch computes it, in the order of the upstream gradient; what it is given for the input is not filled."""
    x, weight = (
        spikes(8, 16, 12, 12, density=0.02).requires_grad_(),
        torch.randn(32, 16, kernel, kernel).requires_grad_(),
    )
    y = events.conv2d_events(x, weight, None, [1, 1, padding, padding, 1, 1])
    upstream = torch.randn(y.shape).contiguous(memory_format=LAST if last else torch.contiguous_format)
    found = torch.autograd.grad(y, [x, weight], upstream)
    expected = torch.autograd.grad(dense(x, weight, padding=padding), [x, weight], upstream.contiguous())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sparse_goes_by_events_and_dense_does_not():
    for shape, weight in (((512, 2, 34, 34), (16, 2, 5, 5)), ((64, 32, 32, 32), (64, 32, 3, 3))):
        for back in (False, True):
            assert events_pay(0.02, shape, weight, (1, 1, 1, 1, 1, 1), back=back)
            assert not events_pay(0.9, shape, weight, (1, 1, 1, 1, 1, 1), back=back)
    assert not events_pay(0.0, (1, 2, 34, 34), (16, 2, 5, 5), (2, 2, 2, 2, 1, 1), back=False)
    # Large steps of a large kernel are cheap for torch; a large weight is laid out anew for few images.
    assert not events_pay(0.05, (32, 2, 64, 64), (32, 2, 7, 7), (2, 2, 3, 3, 1, 1), back=False)
    assert not events_pay(0.1, (16, 128, 8, 8), (256, 128, 3, 3), (1, 1, 1, 1, 1, 1), back=True)


def test_events_train_where_both_directions_gain(monkeypatch):
    calls, forward = [], cpu.forward
    monkeypatch.setattr(cpu, "forward", lambda *args: calls.append(args) or forward(*args))
    x, weight = spikes(16, 128, 8, 8, density=0.1), torch.randn(256, 128, 3, 3)
    places = ((1, 1), (1, 1), (1, 1))
    expected = conv2d(x, weight, None, *places)
    assert len(calls) == 1
    torch.testing.assert_close(conv2d(x, weight.requires_grad_(), None, *places), expected, rtol=1e-4, atol=1e-3)
    assert len(calls) == 1


@pytest.mark.parametrize("create_graph", [False, True])
def test_second_derivative_of_a_loss_that_is_not_linear(create_graph):
    """The gradient depends on input and weight by way of the upstream gradient too: once, not twice."""
    net = sk.Sequential(nn.Conv2d(16, 32, 5, padding=2)).double()
    x = (torch.rand(10, 32, 16, 9, 9) < 0.03).double().requires_grad_()
    found = {}
    for path in ("auto", "torch"):
        paths.set_path(path)
        try:
            (g,) = torch.autograd.grad((net(x) ** 3).sum(), x, create_graph=True)
            found[path] = torch.autograd.grad((g**2).sum(), [x, net[0].weight], create_graph=create_graph)
        finally:
            paths.set_path("auto")
    for ours, theirs in zip(found["auto"], found["torch"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
