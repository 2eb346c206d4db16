"""The linear layer event by event: torch's numbers to rounding, whatever is zero, strided, empty or not finite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import linear as dense

import spikekit.ops.linear as op
from spikekit.ops import paths
from spikekit.ops.linear import cpu, events, linear

RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.fixture
def always_events(monkeypatch):
    """Events whatever the size and density, and a list of the products that were made so."""
    for dtype in RELATIVE:
        assert cpu.supports(dtype)  # and its self-test is over before anything is watched
    made = []

    def watched(function):
        def call(*args):
            result = function(*args)
            made.append((function.__name__, result is not None))
            return result

        return call

    monkeypatch.setattr(op, "large", lambda multiplications, gradient: multiplications > 0)
    monkeypatch.setattr(op, "events_pay", lambda *args, **kwargs: True)
    monkeypatch.setattr(events, "events_pay", lambda *args, **kwargs: True)
    for name in ("product", "outer"):
        monkeypatch.setattr(cpu, name, watched(getattr(cpu, name)))
    return made


def spikes(*shape, density=0.1, dtype=torch.float32, graded=False):
    x = (torch.rand(*shape) < density).to(dtype)
    return x * torch.randn(*shape, dtype=dtype) if graded else x


def close(found, expected):
    found, expected = found.detach(), expected.detach()
    scale = max(float(expected.abs().max()), 1e-3) if expected.numel() else 1.0
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() if found.numel() else 0) <= RELATIVE[expected.dtype] * scale


def compare(x, weight, bias):
    """Outputs and all gradients of `linear` beside torch's."""
    results = []
    for function in (linear, dense):
        leaves = [None if a is None else a.detach().requires_grad_() for a in (x, weight, bias)]
        y = function(*leaves)
        torch.manual_seed(1)
        upstream = torch.randn_like(y)
        results.append((y, *torch.autograd.grad(y, [a for a in leaves if a is not None], upstream)))
    for found, expected in zip(*results, strict=True):
        close(found, expected)
    return results[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("graded", [False, True], ids=["binary", "graded"])
def test_numbers_and_gradients_are_torchs(always_events, poison, dtype, density, graded):
    weight, bias = torch.randn(150, 70, dtype=dtype), torch.randn(150, dtype=dtype)
    compare(spikes(5, 130, 70, density=density, dtype=dtype, graded=graded), weight, bias)
    assert sorted(always_events) == [("outer", True), ("product", True), ("product", True)]


@given(
    rows=st.integers(1, 70),
    inner=st.integers(1, 70),
    outer=st.integers(1, 300),
    density=st.floats(0, 1),
    bias=st.booleans(),
)
def test_any_shape(always_events, rows, inner, outer, density, bias):
    compare(
        spikes(rows, inner, density=density, graded=True),
        torch.randn(outer, inner),
        torch.randn(outer) if bias else None,
    )


@pytest.mark.parametrize(
    ("rows", "inner", "outer"), [(1, 700, 256), (1025, 3, 1), (700, 1, 17), (513, 2100, 260), (3, 1025, 129)]
)
def test_sizes_about_the_blocks(always_events, poison, rows, inner, outer):
    compare(spikes(rows, inner, graded=True), torch.randn(outer, inner), torch.randn(outer))


def test_empty_rows_and_full_ones(always_events):
    x = torch.zeros(300, 40)
    x[7], x[-1] = 1.0, torch.randn(40)
    weight, bias = torch.randn(33, 40), torch.randn(33)
    compare(x, weight, bias)
    assert torch.equal(linear(x, weight, bias)[0], bias)


@pytest.mark.parametrize(
    "weight",
    [
        lambda: torch.randn(12, 30).t(),
        lambda: torch.randn(30, 24)[:, ::2],
        lambda: torch.randn(60, 24)[::2, 3:15],
        lambda: torch.randn(30, 1).expand(30, 12),
        lambda: torch.randn(12).expand(30, 12),
    ],
    ids=["transposed", "every other column", "view", "one column", "one row"],
)
def test_weights_may_lie_anyhow(always_events, weight):
    compare(spikes(5, 4, 12), weight(), torch.randn(60)[::2])


def test_inputs_may_lie_anyhow(always_events):
    weight = torch.randn(30, 12)
    for x in (spikes(12, 4, 5).transpose(0, 2), spikes(5, 4, 24)[..., ::2], spikes(5, 1, 12).expand(5, 4, 12)):
        compare(x, weight, None)


def test_upstream_gradients_may_lie_anyhow(always_events):
    x, weight = spikes(6, 12), torch.randn(9, 12)
    for upstream in (torch.ones(()).expand(6, 9), torch.randn(9, 6).t(), torch.randn(9).expand(6, 9)):
        found, expected = (
            torch.autograd.grad(f(a, w), (a, w), upstream)
            for f, a, w in ((f, x.clone().requires_grad_(), weight.clone().requires_grad_()) for f in (linear, dense))
        )
        for g, h in zip(found, expected, strict=True):
            close(g, h)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["x", "weight", "bias", "grad"])
def test_what_is_not_finite_comes_out_as_torch_gives_it(always_events, bad, where):
    x, weight, bias = spikes(40, 20), torch.randn(30, 20), torch.randn(30)
    upstream = torch.randn(40, 30)
    {"x": x, "weight": weight, "bias": bias, "grad": upstream}[where].view(-1)[7] = bad
    results = []
    for function in (linear, dense):
        leaves = [a.clone().requires_grad_() for a in (x, weight, bias)]
        y = function(*leaves)
        results.append((y, *torch.autograd.grad(y, leaves, upstream)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert any(not torch.isfinite(a).all() for a in results[0])


def test_a_sample_is_the_same_whatever_else_is_in_the_batch(always_events):
    x, weight, bias = spikes(20, 64, 300, graded=True), torch.randn(200, 300), torch.randn(200)
    whole = linear(x, weight, bias)
    order = torch.randperm(64)
    assert torch.equal(linear(x[:, order], weight, bias), whole[:, order])
    assert torch.equal(linear(x[:, 5:6], weight, bias), whole[:, 5:6])
    assert torch.equal(torch.cat([linear(part, weight, bias) for part in x.split(3)]), whole)


@pytest.mark.parametrize("inner", [300, 2500])
def test_threads_do_not_change_a_bit(always_events, inner):
    x, weight, bias = spikes(1500, inner, graded=True), torch.randn(140, inner), torch.randn(140)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(compare(x, weight, bias))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_only_the_gradients_that_are_needed(always_events):
    x, weight = spikes(50, 30), torch.randn(20, 30, requires_grad=True)
    linear(x, weight, None).sum().backward()
    assert [name for name, _ in always_events] == ["product", "outer"]
    weight.grad = None
    linear(x.requires_grad_(), weight.detach(), None).sum().backward()
    assert [name for name, _ in always_events[2:]] == ["product", "product"]


def test_gradients_of_gradients(always_events):
    x = spikes(4, 3, dtype=torch.float64, density=0.5, graded=True).requires_grad_()
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(linear, (x, weight, bias))
    torch.autograd.gradgradcheck(linear, (x, weight, bias))


def test_what_it_does_not_serve_is_torchs(always_events):
    x, weight = spikes(8, 6), torch.randn(5, 6)

    class Own(torch.Tensor):
        pass

    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    assert linear(x.half(), weight.half()).dtype == torch.float16
    assert type(linear(x.as_subclass(Own), weight)) is Own
    torch.testing.assert_close(torch.func.vmap(lambda row: linear(row[None], weight)[0])(x), dense(x, weight))
    torch.testing.assert_close(torch.func.jacrev(lambda w: linear(x, w).sum())(weight), x.sum(0).expand(5, 6))
    assert linear(x.to("meta"), weight.to("meta")).is_meta
    assert linear(torch.empty(0, 6), weight).shape == (0, 5)
    for wrong in (weight.double(), weight[:, :4]):
        with pytest.raises(RuntimeError) as expected:
            dense(x, wrong)
        with pytest.raises(RuntimeError) as found:
            linear(x, wrong)
        assert str(found.value) == str(expected.value)
    assert not always_events


@pytest.mark.parametrize("path", ["torch", "reference"])
def test_forced_paths_are_torchs(always_events, path):
    paths.set_path(path)
    try:
        x, weight = spikes(8, 6), torch.randn(5, 6)
        assert torch.equal(linear(x, weight), dense(x, weight))
    finally:
        paths.set_path("auto")
    assert not always_events


def test_without_a_compiler_it_is_torchs(always_events, monkeypatch):
    monkeypatch.setattr(cpu, "supports", lambda dtype: False)
    x, weight = spikes(8, 6), torch.randn(5, 6)
    assert torch.equal(linear(x, weight), dense(x, weight))
    assert not always_events
