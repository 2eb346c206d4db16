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
    spikes, activations, sigma, residue = sigma_delta_integer(sums, bias, threshold, SigmaDeltaRule(3, 0, activation))
    expected = sigma_delta_reference(sums.double() * 8, None, None, None, threshold.double(), bias.double(), activation)
    for found, wanted in zip((spikes, activations, sigma, residue), (*expected[:3], expected[4]), strict=True):
        assert torch.equal(found.double(), wanted)


def test_integers_by_hand():
    """Sums times 2, changes of 10 or more, sent in quarters, rounded down: what is cut off does not come later."""
    sums = torch.tensor([3, 2, -7, 30]).reshape(4, 1, 1)
    spikes, activations, sigma, residue = sigma_delta_integer(
        sums, torch.tensor(1), torch.tensor(10), SigmaDeltaRule(1, 2, "relu")
    )
    # sigma 6, 10, -4, 56; changes 7, 11, -11, 57
    assert activations.flatten().tolist() == [7, 11, 0, 57]
    assert spikes.flatten().tolist() == [0, 2, -3, 14]
    assert (sigma.item(), residue.item()) == (56, 0)


def test_integers_stay_in_24_bits():
    sums = torch.tensor([2**22, 2**22, 2**22, -(2**23)]).reshape(4, 1, 1)
    zero, one = torch.tensor(0), torch.tensor(1)
    spikes, activations, sigma, _ = sigma_delta_integer(sums, zero, one, SigmaDeltaRule(1, 0, "none"))
    assert activations.flatten().tolist() == [STATE_MAX, STATE_MAX, STATE_MAX, -STATE_MAX]
    # A change of the whole range does not fit: half of it is lost.
    assert spikes.flatten().tolist() == [STATE_MAX, 0, 0, -STATE_MAX]
    assert sigma.item() == -STATE_MAX


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
if given["fixed"]:
    sent = [np.right_shift(s, given["state_exp"]) for s in sent]
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
    found = sigma_delta_integer(sums, bias, threshold, SigmaDeltaRule(0, 4, activation))
    spikes, sigma, residue = lava_says(LAVA, given | {"fixed": True, "state_exp": 4})
    assert found[0][:, 0].tolist() == spikes
    assert found[2][0].tolist() == sigma
    assert found[3][0].tolist() == residue
