"""Max-pooling by the kernels: torch's numbers and gradients, bit for bit, ties and NaN included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import spikekit as sk
from spikekit.layers import apply_stateless
from spikekit.ops import paths
from spikekit.ops.pool import cpu, max_pool2d
from spikekit.ops.pool.operator import max_pool2d_kernel

LAST = torch.channels_last


@pytest.fixture
def watched_kernel(monkeypatch):
    """Counts the calls of the kernel."""
    assert cpu.supports(torch.float32)
    made, function = [], cpu.forward

    def call(*args):
        made.append(1)
        return function(*args)

    monkeypatch.setattr(cpu, "forward", call)
    return made


def compare(x, window):
    results = []
    for function in (max_pool2d, F.max_pool2d):
        leaf = x.detach().requires_grad_()
        y = function(leaf, window)
        torch.manual_seed(1)
        results.append((y, *torch.autograd.grad(y, leaf, torch.randn(y.shape, dtype=y.dtype))))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found.isnan(), expected.isnan())
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(2, 40), st.integers(2, 40)),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    last=st.booleans(),
    seed=st.integers(0, 9),
)
def test_numbers_and_gradients_are_those_of_torch(dtype, shape, window, last, seed):
    assert cpu.supports(dtype)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 4, shape, generator=draw).to(dtype)
    x[torch.rand(shape, generator=draw) < 0.03] = torch.nan
    x[torch.rand(shape, generator=draw) < 0.03] = -torch.inf
    if window[0] <= shape[2] and window[1] <= shape[3]:
        compare(x.contiguous(memory_format=LAST) if last else x, window)


def test_views_and_broadcast_images_are_pooled(watched_kernel):
    compare(torch.randn(4, 6, 10, 10)[::2, 1:5, :, 1:9], (2, 2))
    compare(torch.randn(1, 3, 8, 8).expand(5, -1, -1, -1), (2, 2))
    assert watched_kernel


def test_the_order_in_memory_stays():
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=LAST).requires_grad_()
    y = max_pool2d(x, (2, 2))
    assert y.is_contiguous(memory_format=LAST)
    (grad,) = torch.autograd.grad(y, x, torch.ones(y.shape))
    assert grad.is_contiguous(memory_format=LAST)


def test_a_byte_a_window_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        max_pool2d(torch.randn(2, 3, 8, 8, requires_grad=True), (2, 2))
    assert kept == [2 * 3 * 4 * 4]


def test_a_second_derivative():
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: max_pool2d(x, (2, 3)) ** 2, x)


def test_the_operator_keeps_the_rules_of_torch():
    for last in (False, True):
        x = torch.randn(2, 3, 5, 6)
        x = x.contiguous(memory_format=LAST) if last else x
        torch.library.opcheck(max_pool2d_kernel.overload, (x.requires_grad_(), [2, 2]))


def test_compiled_whole():
    compiled = torch.compile(lambda x: max_pool2d(x, (2, 2)) * 2, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = compiled(x)
    assert torch.equal(y, F.max_pool2d(x, 2) * 2)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, torch.autograd.grad((F.max_pool2d(x, 2) * 2).sum(), x)[0])


@pytest.mark.parametrize(
    ("layer", "ours"),
    [
        (nn.MaxPool2d(2), True),
        (nn.MaxPool2d((3, 2)), True),
        (nn.MaxPool2d(2, 1), False),
        (nn.MaxPool2d(3, 2), False),
        (nn.MaxPool2d(3, 3, padding=1), False),
        (nn.MaxPool2d(2, dilation=2), False),
        (nn.MaxPool2d(2, ceil_mode=True), False),
    ],
    ids=str,
)
def test_layers_go_through_it_where_it_is_theirs(layer, ours, watched_kernel):
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(apply_stateless(layer, x), layer(x))
    assert bool(watched_kernel) is ours
    assert torch.equal(sk.Sequential(layer)(x[None])[0], layer(x))


def test_hooks_and_other_paths_have_torch(watched_kernel):
    x, layer = torch.randn(2, 3, 8, 8), nn.MaxPool2d(2)
    seen = []
    layer.register_forward_hook(lambda *args: seen.append(1))
    apply_stateless(layer, x)
    paths.set_path("torch")
    try:
        max_pool2d(x, (2, 2))
    finally:
        paths.set_path("auto")
    for y in (x.half(), x.long(), x[:0], torch.randn(2, 3, 1, 8)):
        if y.numel() and y.shape[2] > 1:
            max_pool2d(y, (2, 2))
    torch.func.vmap(lambda x: max_pool2d(x, (2, 2)))(x[:, None])
    assert seen == [1]
    assert not watched_kernel


def test_an_image_without_a_window_is_torch_s_to_refuse():
    with pytest.raises(RuntimeError):
        max_pool2d(torch.randn(1, 1, 1, 8), (2, 2))
