"""`sk.MPR`: the paper's curve, no spike changed, and the gradient of the composite written out."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spikekit as sk
from spikekit import surrogate
from spikekit.errors import InputError
from spikekit.ops import paths
from spikekit.surrogate import decode

CURVES = [None, surrogate.ATan(), surrogate.Triangle(0.7), surrogate.SechBump(2.0, 0.8)]
RESETS = ("soft", "hard", "none")


def phi(u):
    """The paper's curve for one number."""
    if u < 0:
        return 1 - (1 - u) ** (1 / 3)
    return u ** (1 / 3) if u > 1 else 0.5 + 0.5 * math.tanh(3 * (u - 0.5)) / math.tanh(1.5)


@given(st.floats(-50, 50), st.floats(0.05, 20))
def test_the_curve_of_the_paper_scaled_to_any_threshold(u, theta):
    mpr = sk.MPR()
    found = mpr(torch.tensor(u, dtype=torch.float64), theta)
    assert float(found) == pytest.approx(2 * theta * phi(u / (2 * theta)), rel=1e-12, abs=1e-12)
    assert float(mpr(torch.tensor(theta, dtype=torch.float64), theta)) == pytest.approx(theta, rel=1e-15)


def test_increasing_steepest_in_the_middle_and_finite_everywhere():
    u = torch.linspace(-3, 4, 700_001, dtype=torch.float64)
    assert bool((sk.MPR()(u).diff() > 0).all())
    assert float(sk.MPR().slope(torch.tensor(0.5))) == pytest.approx(1.657, abs=5e-4)
    hard = torch.tensor([-math.inf, -1e30, -1.0, -0.0, 0.0, 0.5, 1.0, 1e30, math.inf], requires_grad=True)
    for theta in (1e-3, 0.5, 1e3):
        assert not sk.MPR()(hard, theta).isnan().any()
        (grad,) = torch.autograd.grad(sk.MPR()(hard[1:-1], theta).sum(), hard)
        assert grad.isfinite().all()
        assert sk.MPR().slope(hard.detach(), theta).isfinite().all()


@pytest.mark.parametrize("theta", [0.5, 1.3])
def test_the_slope_is_the_derivative(theta):
    u = (torch.rand(2000, dtype=torch.float64) * 8 - 3).requires_grad_()
    (grad,) = torch.autograd.grad(sk.MPR(2.0)(u, theta).sum(), u)
    torch.testing.assert_close(sk.MPR(2.0).slope(u.detach(), theta), grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("theta", [0.3, 0.5, 1.0])
def test_it_moves_no_decision(theta):
    """A million values and more, but for those so close to θ that the curve itself rounds."""
    u = torch.linspace(-1, 3, 2_000_001)
    decided = sk.MPR()(u, theta) > theta
    apart = (u - theta).abs() > 1e-6
    assert torch.equal(decided[apart], (u > theta)[apart])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("inclusive", [False, True])
def test_forward_spikes_are_bit_identical(reset, inclusive):
    x = torch.randn(10, 8, 5000) * 0.7 + 0.2
    x[:, 0] = (x[:, 0] * 4).round() / 4
    settings = {"beta": 0.75, "threshold": 0.5, "reset": reset, "inclusive": inclusive}
    (plain, old), (spikes, new) = (
        sk.run(sk.LIF(**settings, **extra), x)
        for extra in ({}, {"rectifier": sk.MPR(), "surrogate": surrogate.Sigmoid()})
    )
    assert 0.1 < plain.mean() < 0.9
    assert torch.equal(plain, spikes)
    assert torch.equal(old[""]["v"], new[""]["v"])


def straight(mpr, curve, theta):
    """Spike of a compared value u by the formula of the paper, for autograd to differentiate."""

    def fire(u):
        m = mpr(u, theta)
        slope = None if curve is None else curve.derivative((m - theta).detach())
        line = (m / (2 * theta)).clamp(0, 1) if slope is None else slope * (m - theta)
        return (u > theta).to(u.dtype) + line - line.detach()

    return fire


def loop(x, beta, theta, quantum, reset, detach, fire, compared=lambda u: u):
    v, spikes = torch.zeros_like(x[0]), []
    for drive in x:
        u = beta * v + drive
        s = fire(compared(u))
        spikes.append(s)
        r = s.detach() if detach else s
        v = {"soft": u - quantum * r, "hard": u * (1 - r), "none": u}[reset]
    return torch.stack(spikes)


@pytest.mark.parametrize("theta", [0.5, 1.25])
@pytest.mark.parametrize("curve", CURVES, ids=str)
@pytest.mark.parametrize(("reset", "detach"), list(itertools.product(RESETS, (False, True))))
def test_the_gradient_is_that_of_the_composite(reset, detach, curve, theta):
    mpr = sk.MPR()
    lif = sk.LIF(0.75, theta, reset, reset_quantum=1.0, rectifier=mpr, surrogate=curve, detach_reset=detach).double()
    x = (torch.randn(7, 4, 50, dtype=torch.float64) + 0.3).requires_grad_()
    weight = torch.randn_like(x)
    spikes, expected = lif(x), loop(x, 0.75, theta, 1.0, reset, detach, straight(mpr, curve, theta))
    assert torch.equal(spikes, expected.round())
    grads = [torch.autograd.grad((s * weight).sum(), x)[0] for s in (spikes, expected)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("curve", CURVES[:2], ids=str)
def test_with_a_norm_it_acts_on_the_normalised_membrane(curve, training):
    mpr = sk.MPR()
    lif = sk.LIF(0.25, 0.5, "hard", rectifier=mpr, surrogate=curve, norm=sk.MPBN(6)).double().train(training)
    with torch.no_grad():
        for value, low in ((lif.norm.weight, -1.0), (lif.norm.bias, -0.5), (lif.norm.running_var, 0.5)):
            value.uniform_(low, 1)
    bn = torch.nn.BatchNorm1d(6).double().train(training)
    bn.load_state_dict(lif.norm.state_dict())
    x = torch.randn(6, 9, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    spikes = lif(x)
    expected = loop(x, 0.25, 0.5, 0.5, "hard", False, straight(mpr, curve, 0.5), bn)
    assert torch.equal(spikes, expected.round())
    grads = [
        torch.autograd.grad((s * weight).sum(), (x, n.weight, n.bias)) for s, n in ((spikes, lif.norm), (expected, bn))
    ]
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


NEURONS = {
    "LIF": lambda **kw: sk.LIF(0.8, 0.6, "soft", **kw),
    "IF": lambda **kw: sk.IF(0.6, "hard", **kw),
    "CUBALIF": lambda **kw: sk.CUBALIF(0.5, 0.8, 0.6, **kw),
    "RecurrentLIF": lambda **kw: sk.RecurrentLIF(5, 0.8, 0.6, **kw),
    "MPBN": lambda **kw: sk.LIF(0.8, 0.6, norm=sk.MPBN(5), **kw),
}


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("curve", CURVES[:2], ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_every_path_equals_the_reference(name, curve, equal_to_reference):
    net = NEURONS[name](rectifier=sk.MPR(), surrogate=curve)

    def fast(x):
        return net(x)

    def reference(x):
        paths.set_path("reference")
        try:
            return net(x)
        finally:
            paths.set_path("auto")

    (spikes,), _ = equal_to_reference(fast, reference, [torch.randn(6, 4, 5) * 0.7 + 0.3], (True,))
    assert 0.1 < spikes.mean() < 0.9


@pytest.mark.parametrize("curve", CURVES[:2], ids=str)
def test_it_compiles(curve):
    net = sk.LIF(rectifier=sk.MPR(), surrogate=curve)
    x = torch.randn(5, 2, 3, requires_grad=True)
    weight = torch.randn(5, 2, 3)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad((run(x) * weight).sum(), x)[0] for run in (net, compiled)]
    torch.testing.assert_close(*grads)


def test_the_fast_surrogate_where_none_was_given():
    lif = sk.LIF(threshold=0.75, rectifier=sk.MPR(2.0))
    assert lif.rule.surrogate == surrogate.SechBump(2.0, 1.5)
    assert lif.rectifier == sk.MPR(2.0)
    assert repr(lif).endswith("surrogate=SechBump(sharpness=2.0, width=1.5), rectifier=MPR(sharpness=2.0))")


@pytest.mark.parametrize("change", ["load", "assign"])
def test_another_threshold_brings_another_curve(change):
    lif = sk.LIF(threshold=0.5, rectifier=sk.MPR())
    if change == "load":
        lif.load_state_dict(sk.LIF(threshold=2.0).state_dict())
    else:
        lif.threshold = torch.tensor(2.0)
    assert lif.rule.surrogate == surrogate.SechBump(3.0, 4.0)


def test_names_for_operators_copies_and_pickles():
    curve = sk.MPR(2.0).surrogate(0.75, surrogate.Triangle(0.5))
    assert decode(*curve.encode()) == curve
    for made in (copy.deepcopy(curve), pickle.loads(pickle.dumps(curve))):
        assert made == curve
    lif = pickle.loads(pickle.dumps(sk.LIF(rectifier=sk.MPR(), surrogate=surrogate.ATan())))
    assert lif.rectifier == sk.MPR()
    assert lif.rule.surrogate.base == surrogate.ATan()


@pytest.mark.parametrize("kind", [sk.LIF, sk.IF, sk.CUBALIF, lambda **kw: sk.RecurrentLIF(3, **kw)])
def test_what_has_no_one_threshold_is_refused(kind):
    with pytest.raises(
        InputError, match=r"rectifier=MPR.*one fixed threshold.*one a channel or neuron.*Give one number"
    ):
        kind(threshold=torch.ones(3), rectifier=sk.MPR())
    with pytest.raises(InputError, match=r"one fixed threshold.*a learned threshold.*Give one number"):
        kind(learn="threshold", rectifier=sk.MPR())
    with pytest.raises(InputError, match=r"rectifier must be an sk.MPR or None, got <class"):
        kind(rectifier=sk.MPR)


@pytest.mark.parametrize("sharpness", [0, -1.0, math.nan, "3", True])
def test_bad_settings_are_refused(sharpness):
    with pytest.raises(InputError, match="sharpness must be a positive number"):
        sk.MPR(sharpness)
    with pytest.raises(InputError, match="threshold must be one positive number"):
        sk.MPR()(torch.zeros(1), sharpness)
