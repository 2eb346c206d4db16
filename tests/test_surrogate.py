"""Surrogates: each curve against its own antiderivative, its papers' numbers, and the promises of a value."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spikekit as sk
from spikekit.errors import InputError
from spikekit.surrogate import (
    ATan,
    Exponential,
    FastSigmoid,
    Rectangle,
    SechBump,
    Sigmoid,
    StraightThrough,
    Surrogate,
    Triangle,
    decode,
)

# Each curve with the points where its slope is not continuous.
CURVES = [
    (ATan(2.0), ()),
    (ATan(0.7), ()),
    (Sigmoid(4.0), ()),
    (FastSigmoid(25.0), (0.0,)),
    (Triangle(1.0), (-1.0, 0.0, 1.0)),
    (Triangle(0.3), (-0.3, 0.0, 0.3)),
    (Rectangle(1.0), (-0.5, 0.5)),
    (Rectangle(3.0), (-1.5, 1.5)),
    (StraightThrough(), ()),
    (SechBump(), (-0.5, 0.5)),
    (SechBump(2.0, 0.8), (-0.4, 0.4)),
    (Exponential(2.0), (0.0,)),
]
ALL = [curve for curve, _ in CURVES]
OF_AREA_ONE = [c for c in ALL if not isinstance(c, (FastSigmoid, StraightThrough))]


@dataclass(frozen=True)
class Cosine(Surrogate):
    """A user's own curve, with a derivative and nothing else."""

    width: float = 2.0

    def derivative(self, m):
        return torch.cos(m / self.width).clamp(min=0)


def test_every_surrogate_of_the_module_is_tested():
    public = {c for c in vars(sk.surrogate).values() if isinstance(c, type) and issubclass(c, Surrogate)}
    assert public - {Surrogate} == {type(c) for c in ALL}


@given(st.floats(-4, 4))
@pytest.mark.parametrize(("curve", "kinks"), CURVES, ids=str)
def test_derivative_is_the_slope_of_the_antiderivative(curve, kinks, m):
    step = 1e-6
    if any(abs(m - kink) < 2 * step for kink in kinks):
        return
    points = torch.tensor([m - step, m, m + step], dtype=torch.float64, requires_grad=True)
    values = curve.antiderivative(points)
    difference = float((values[2] - values[0]).detach()) / (2 * step)
    (slope,) = torch.autograd.grad(values.sum(), points)
    derivative = curve.derivative(points.detach())
    assert float(derivative[1]) == pytest.approx(float(slope[1]), rel=1e-9, abs=1e-12)
    assert float(derivative[1]) == pytest.approx(difference, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("curve", OF_AREA_ONE, ids=str)
def test_area_is_one(curve):
    far = torch.tensor([-1e9, 1e9], dtype=torch.float64)
    low, high = curve.antiderivative(far).tolist()
    assert low == pytest.approx(0, abs=1e-8)
    assert high == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (ATan(2.0), [1.0, 1 / (1 + math.pi**2 / 4)]),
        (Sigmoid(4.0), [1.0, 4 * 0.8807970779778823 * (1 - 0.8807970779778823)]),
        (FastSigmoid(25.0), [1.0, 1 / 13.5**2]),
        (Triangle(1.0), [1.0, 0.5]),
        (Rectangle(1.2), [1 / 1.2, 1 / 1.2]),
        (StraightThrough(), [1.0, 1.0]),
        (Exponential(2.0), [1.0, math.exp(-1)]),
    ],
    ids=str,
)
def test_values_at_the_threshold_and_half_above(curve, expected):
    assert curve.derivative(torch.tensor([0.0, 0.5]).double()).tolist() == pytest.approx(expected, rel=1e-12)


def test_sech_bump_is_the_gradient_of_the_rectifier():
    u = torch.linspace(-0.5, 1.5, 40, dtype=torch.float64)
    expected = 1.5 / torch.cosh(3 * (u - 0.5)) ** 2 / math.tanh(1.5)
    expected[(u <= 0) | (u >= 1)] = 0
    torch.testing.assert_close(SechBump(3.0, 1.0).derivative(u - 0.5), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("curve", ALL, ids=str)
def test_far_from_the_threshold_nothing_overflows(curve):
    for dtype in (torch.float32, torch.float64):
        far = torch.tensor([-1e30, -1e5, 1e5, 1e30], dtype=dtype)
        derivative = curve.derivative(far)
        assert torch.isfinite(derivative).all()
        assert (derivative >= 0).all()
        assert torch.isfinite(curve.antiderivative(far)).all()


@pytest.mark.parametrize("curve", ALL, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_dtype_kept_input_left_alone_output_new(curve, dtype):
    m = torch.randn(3, 4).to(dtype)
    before = m.clone()
    for function in (curve.derivative, curve.antiderivative):
        result = function(m)
        assert result.dtype == dtype
        assert result.shape == m.shape
        result.zero_()
        assert torch.equal(m, before)


@pytest.mark.parametrize("curve", ALL, ids=str)
def test_a_surrogate_is_a_value(curve):
    assert eval(repr(curve), vars(sk.surrogate)) == curve
    assert pickle.loads(pickle.dumps(curve)) == curve
    assert copy.deepcopy(curve) == curve
    assert len({curve, copy.deepcopy(curve)}) == 1
    assert decode(*curve.encode()) == curve
    with pytest.raises(FrozenInstanceError):
        curve.alpha = 3.0


def test_surrogates_differ_by_kind_and_by_number():
    assert ATan(2.0) != ATan(3.0)
    assert ATan(2.0) != Sigmoid(2.0)
    assert ATan(2) == ATan(2.0)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "2", None, torch.tensor(2.0)])
@pytest.mark.parametrize("kind", [ATan, Triangle, SechBump])
def test_numbers_must_be_positive(kind, value):
    with pytest.raises(InputError, match=rf"surrogate\.{kind.__name__}: \w+ must be a positive number, got"):
        kind(value)


@pytest.mark.parametrize("attached", [False, True])
def test_own_curve_on_both_paths(attached):
    x = torch.randn(5, 2, 3, requires_grad=True)
    lif = sk.LIF(surrogate=Cosine(1.5), detach_reset=not attached)
    (grad,) = torch.autograd.grad(lif(x).sum(), x)
    per_sample = torch.func.vmap(torch.func.grad(lambda one: lif(one.unsqueeze(1)).sum()), in_dims=1, out_dims=1)(
        x.detach()
    )
    torch.testing.assert_close(grad, per_sample)
    with pytest.raises(NotImplementedError, match="Cosine must define antiderivative"):
        lif.rule.surrogate.antiderivative(x)


def test_a_curve_without_derivative_says_so():
    @dataclass(frozen=True)
    class Empty(Surrogate):
        pass

    x = torch.randn(5, 2, 3, requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"Empty must define derivative\(m\)"):
        sk.LIF(surrogate=Empty())(x).sum().backward()


def test_a_class_defined_again_does_not_change_older_neurons():
    """What a notebook does when its cell is run twice."""

    def define(height):
        @dataclass(frozen=True)
        class Flat(Surrogate):
            def derivative(self, m):
                return torch.full_like(m, height)

        return Flat()

    def slope(lif):
        x = torch.ones(1, 1, 1, requires_grad=True)
        (grad,) = torch.autograd.grad(lif(x).sum(), x)
        return grad.item()

    first = sk.LIF(surrogate=define(1.0))
    second = sk.LIF(surrogate=define(5.0))
    assert [slope(first), slope(second), slope(first)] == [1.0, 5.0, 1.0]
