"""When the linear layer goes event by event, and that the density it goes by is right."""

from __future__ import annotations

import pytest
import torch

from spikekit.ops.linear import cpu, events, linear
from spikekit.ops.linear.choice import events_pay, large


@pytest.mark.parametrize("shape", [(6400, 700, 256), (640, 1024, 1024), (640, 256, 256)])
def test_sparse_goes_by_events_and_dense_does_not(shape):
    for by_column in (False, True):
        assert events_pay(0.05, *shape, by_column=by_column)
        assert not events_pay(0.6, *shape, by_column=by_column)


def test_small_layers_and_few_rows_stay_with_torch():
    assert not large(64 * 64 * 20, gradient=False)
    assert large(1 << 22, gradient=False)
    assert not large(1 << 22, gradient=True)
    assert not events_pay(0.0, 16, 4096, 4096)


def test_the_choice_is_made_by_the_numbers(monkeypatch):
    made = []
    for name in ("product", "outer"):
        made_by = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *args, f=made_by, n=name: made.append(n) or f(*args))
    weight = torch.randn(256, 256, requires_grad=True)
    sparse = (torch.rand(640, 256) < 0.05).float()
    y = linear(sparse.requires_grad_(), weight)
    y.backward((torch.rand(640, 256) < 0.02).float())
    assert made == ["product", "product", "outer"]
    made.clear()
    y = linear(sparse, weight)
    y.backward(torch.randn(640, 256))
    assert made == ["product", "outer"]
    made.clear()
    linear(torch.randn(640, 256), weight).sum().backward()
    assert made == []
    assert type(linear(torch.randn(640, 256), weight).grad_fn).__name__ == "MmBackward0"


def test_a_wrong_choice_is_slower_not_wrong(monkeypatch):
    x, weight, bias = (torch.rand(640, 256) < 0.05).float(), torch.randn(256, 256), torch.randn(256)
    by_events = linear(x, weight, bias)
    monkeypatch.setattr(events, "events_pay", lambda *args, **kwargs: False)
    dense = linear(x, weight, bias)
    torch.testing.assert_close(dense, by_events)
    torch.testing.assert_close(dense, torch.nn.functional.linear(x, weight, bias))


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(7, 5), (100, 64, 700), (100000, 3)])
def test_density(density, shape):
    x = (torch.rand(shape) < density).float().flatten(0, -2)
    assert cpu.density(x) == pytest.approx(float(x.mean()), abs=0.02)


def test_density_does_not_fall_in_with_the_batch():
    for batch in (16, 25, 64, 100):
        x = torch.zeros(100, batch, 700)
        x[:, 0] = 1
        assert cpu.density(x.flatten(0, 1)) == pytest.approx(1 / batch, abs=0.06)
        x = torch.zeros(100, batch, 700)
        x[20:50] = 1
        assert cpu.density(x.flatten(0, 1)) == pytest.approx(0.3, abs=0.05)
