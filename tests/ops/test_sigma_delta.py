"""What is special to the sigma-delta neuron: what its spikes promise, the integer loop, and Lava's own numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.ops.integer import STATE_MAX
from spikekit.ops.lif import state_dtype
from spikekit.ops.sigma_delta import SigmaDeltaRule, sigma_delta, sigma_delta_integer, sigma_delta_reference

ACTIVATIONS = ("relu", "none")


def inputs(shape, dtype):
    """Drive, threshold and bias."""
    state = state_dtype(dtype)
    threshold, bias = torch.rand((), dtype=state) * 0.3 + 0.3, torch.randn((), dtype=state) * 0.2
    return (torch.randn(shape) * 0.4).to(dtype), threshold, bias


@pytest.mark.usefixtures("path")
@given(
    seed=st.integers(0, 2**31),
    threshold=st.floats(1e-3, 2.0),
    activation=st.sampled_from(ACTIVATIONS),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_what_was_sent_is_closer_than_the_threshold(seed, threshold, activation, dtype):
    torch.manual_seed(seed)
    x, _, bias = inputs((30, 2, 9), dtype)
    level = torch.tensor(threshold, dtype=bias.dtype)
    spikes, activations, _, _, residue = sigma_delta(
        x, None, None, None, level, bias, activation, keep_activations=True
    )
    behind = activations.double() - spikes.double().cumsum(0)
    # bfloat16 rounds what is sent by 2^-9 of it, which stays in the residue.
    rounding = 1e-4 if dtype != torch.bfloat16 else 2**-8 * float(spikes.abs().max())
    assert float(behind.abs().max()) < max(threshold, rounding) + 1e-4
    torch.testing.assert_close(residue.double(), behind[-1], rtol=0, atol=1e-4)
    assert bool(((spikes == 0) | (spikes.abs() >= 0.99 * level)).all())


def test_a_constant_is_sent_once():
    x = torch.zeros(10, 1, 1)
    x[0] = 1.5
    spikes, *_ = sigma_delta(x, None, None, None, torch.tensor(0.1), torch.tensor(0.25), "relu")
    assert spikes.flatten().tolist() == [1.75, *[0] * 9]


@pytest.mark.usefixtures("path")
def test_numbers_by_hand():
    """sigma: 0.5, 0.75, 0.25, -1.25; changes below 0.75 wait in the residue."""
    x = torch.tensor([0.5, 0.25, -0.5, -1.5]).reshape(4, 1, 1)
    spikes, activations, sigma, act, residue = sigma_delta(
        x, None, None, None, torch.tensor(0.75), torch.tensor(0.0), "relu", keep_activations=True
    )
    assert activations.flatten().tolist() == [0.5, 0.75, 0.25, 0.0]
    assert spikes.flatten().tolist() == [0, 0.75, 0, -0.75]
    assert (sigma.item(), act.item(), residue.item()) == (-1.25, 0, 0)


@pytest.mark.usefixtures("path")
def test_the_gradient_is_that_of_the_activation():
    """The encoder is passed straight through: a loss of the decoded output is one of the activations."""
    x, threshold, bias = inputs((8, 2, 9), torch.float64)
    weights, grads = torch.randn(8, 2, 9, dtype=torch.float64), []
    for decoded in (
        lambda x, bias: sigma_delta(x, None, None, None, threshold, bias, "relu")[0].cumsum(0),
        lambda x, bias: torch.relu(x.cumsum(0) + bias),
    ):
        leaves = [a.clone().requires_grad_() for a in (x, bias)]
        grads.append(torch.autograd.grad((decoded(*leaves) * weights).sum(), leaves))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def whole(low, high, *shape):
    return torch.randint(low, high, shape)


@given(seed=st.integers(0, 2**31), activation=st.sampled_from(ACTIVATIONS))
def test_integers_are_the_floats_where_nothing_is_cut(seed, activation):
    torch.manual_seed(seed)
    sums, bias, threshold = whole(-50, 51, 20, 3, 7), whole(-99, 100, 7), whole(1, 300, 7)
    rule = SigmaDeltaRule(3, activation)
    spikes, sigmas, activations, residue = sigma_delta_integer(sums, bias, threshold, torch.tensor(0), rule)
    expected = sigma_delta_reference(sums.double() * 8, None, None, None, threshold.double(), bias.double(), activation)
    for found, wanted in zip((spikes, activations, sigmas[-1], residue), (*expected[:3], expected[4]), strict=True):
        assert torch.equal(found.double(), wanted)


def test_integers_by_hand():
    """Sums times 2, changes of 10 or more, sent in quarters, rounded to the nearest: the rest comes later."""
    sums = torch.tensor([3, 2, -7, 30]).reshape(4, 1, 1)
    spikes, sigmas, activations, residue = sigma_delta_integer(
        sums, torch.tensor(1), torch.tensor(10), torch.tensor(2), SigmaDeltaRule(1, "relu")
    )
    assert sigmas.flatten().tolist() == [6, 10, -4, 56]
    assert activations.flatten().tolist() == [7, 11, 0, 57]
    # Changes 7; 4 + 7 = 11, of which 12 is sent; -11 - 1 = -12; 57, of which 56 is sent.
    assert spikes.flatten().tolist() == [0, 3, -3, 14]
    assert residue.item() == 1


@given(seed=st.integers(0, 2**31), cut=st.integers(0, 8), bits=st.integers(4, 16))
def test_messages_follow_the_activity_whatever_is_cut_off(seed, cut, bits):
    """All messages so far, in units of the state, are the activity less the residue: nothing is lost on the way."""
    torch.manual_seed(seed)
    sums, bias, threshold = whole(-900, 901, 25, 2, 7), whole(-999, 1000, 7), whole(1, 3000, 7)
    rule = SigmaDeltaRule(0, "relu", 2 ** (bits - 1) - 1)
    spikes, _, activations, residue = sigma_delta_integer(sums, bias, threshold, torch.tensor(cut), rule)
    assert torch.equal((spikes.sum(0) << cut) + residue, activations[-1])
    assert int(spikes.abs().max()) <= rule.largest
    behind = (activations - (spikes.cumsum(0) << cut)).abs()
    # Nearer than the threshold or half a unit, unless the message was the largest there is.
    assert bool(((behind < threshold.clamp(min=(1 << cut) // 2 + 1)) | (spikes.abs() == rule.largest)).all())


def test_integers_stay_in_24_bits():
    sums = torch.tensor([2**22, 2**22, 2**22, -(2**22) + 1, -(2**22) + 1, -(2**22) + 1]).reshape(6, 1, 1)
    zero, one = torch.tensor(0), torch.tensor(1)
    spikes, sigmas, activations, _ = sigma_delta_integer(sums, zero, one, zero, SigmaDeltaRule(1, "none"))
    assert activations.flatten().tolist() == [STATE_MAX, STATE_MAX, STATE_MAX, 1, 2 - 2**23 + 1, -STATE_MAX]
    assert torch.equal(activations, sigmas)
    assert int(spikes.sum()) == -STATE_MAX


def test_a_change_of_the_whole_range_does_not_fit():
    """From one end to the other in two steps, the first of them just below the threshold: half of it is lost."""
    sums = torch.tensor([-STATE_MAX, STATE_MAX - 1, STATE_MAX]).reshape(3, 1, 1)
    zero = torch.tensor(0)
    spikes, sigmas, _, residue = sigma_delta_integer(
        sums, zero, torch.tensor(STATE_MAX), zero, SigmaDeltaRule(0, "none")
    )
    assert sigmas.flatten().tolist() == [-STATE_MAX, -1, STATE_MAX - 1]
    assert spikes.flatten().tolist() == [-STATE_MAX, 0, STATE_MAX]
    assert residue.item() == 0


def test_what_arrives_wraps_once():
    sums = torch.tensor([2**23, 2**23 + 1, -(2**23), -(2**23) + 1]).reshape(1, 1, 4)
    _, sigmas, *_ = sigma_delta_integer(
        sums, torch.tensor(0), torch.tensor(1), torch.tensor(0), SigmaDeltaRule(0, "none")
    )
    assert sigmas.flatten().tolist() == [STATE_MAX, -STATE_MAX, STATE_MAX, -STATE_MAX]


LAVA = """
import json, sys
import numpy as np
from lava.proc.sdn.models import PySigmaDeltaModelFixed, PySigmaDeltaModelFloat
from lava.proc.sdn.process import ActivationMode

given = json.load(sys.stdin)
kind = int if given["fixed"] else float
model = object.__new__(PySigmaDeltaModelFixed if given["fixed"] else PySigmaDeltaModelFloat)
drive = np.array(given["drive"]).astype(kind)
for name in ("sigma", "act", "residue", "error"):
    setattr(model, name, np.zeros(drive.shape[1], dtype=kind))
model.vth, model.bias = np.array(given["threshold"]), np.array(given["bias"])
model.cum_error, model.act_mode = False, ActivationMode[given["mode"]]
sent = [model.dynamics(a) for a in drive]
print(json.dumps([np.array(sent).tolist(), model.sigma.tolist(), model.residue.tolist()]))
"""


@pytest.mark.parametrize(("mode", "activation"), [("RELU", "relu"), ("UNIT", "none")])
def test_lava_computes_the_same(mode, activation, lava_says):
    x = torch.randn(30, 1, 20, dtype=torch.float64) * 0.3
    bias, threshold = torch.randn(20, dtype=torch.float64) * 0.2, torch.rand(20, dtype=torch.float64) + 0.1
    given = {"drive": x[:, 0].tolist(), "bias": bias.tolist(), "threshold": threshold.tolist(), "mode": mode}
    found = sigma_delta(x, None, None, None, threshold, bias, activation)
    spikes, sigma, residue = lava_says(LAVA, given | {"fixed": False})
    assert found[0][:, 0].tolist() == spikes
    assert found[2][0].tolist() == sigma
    assert found[4][0].tolist() == residue


@pytest.mark.parametrize(("mode", "activation"), [("RELU", "relu"), ("UNIT", "none")])
def test_lava_computes_the_same_integers(mode, activation, lava_says):
    sums, bias, threshold = whole(-900, 901, 30, 1, 20), whole(-999, 1000, 20), whole(1, 3000, 20)
    given = {"drive": sums[:, 0].tolist(), "bias": bias.tolist(), "threshold": threshold.tolist(), "mode": mode}
    found = sigma_delta_integer(sums, bias, threshold, torch.tensor(0), SigmaDeltaRule(0, activation))
    spikes, sigma, residue = lava_says(LAVA, given | {"fixed": True})
    assert found[0][:, 0].tolist() == spikes
    assert found[1][-1, 0].tolist() == sigma
    assert found[3][0].tolist() == residue
