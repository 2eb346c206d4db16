"""`sk.verify_fold` counts what differs, finds what is wrong, and the fold itself stands before it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from tests.folding.nets import conv_net, frames, res_net


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("element", [False, True], ids=["channel", "element"])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_no_decision_differs(reset, element, dtype):
    net, x = conv_net(reset, element).to(dtype), frames(10, 200).to(dtype)
    proof = sk.verify_fold(net, x)
    assert proof.decisions == 10 * 200 * (384 + 20 + 5)
    assert proof.exact
    assert proof.away == 0
    assert proof.mismatches <= proof.ties
    assert proof.dtype == dtype
    assert [layer.name for layer in proof.layers] == ["2", "7", "9"]
    assert all(0.02 < layer.spikes / layer.decisions < 0.98 for layer in proof.layers)
    if dtype == torch.float64:
        assert proof.end_to_end == 0
    assert f"{proof.decisions:,} decisions in" in str(proof)


def test_other_folds_are_verified_with_their_rows():
    net, x = conv_net(), frames()
    assert sk.verify_fold(net, x, sk.fold(net, negative="negate")).mismatches == 0


def test_residual_networks_and_their_margins():
    net, x = res_net(), frames(4, 8)
    proof = sk.verify_fold(net, x)
    assert proof.exact
    assert [layer.name for layer in proof.layers][:2] == ["lif", "blocks.0.branch.2"]
    with torch.no_grad():
        _, seen = sk.record(net, x, "lif.norm.decision")
    decided = (seen["lif.norm.decision"].double() - 0.5).abs().min()
    assert proof.layers[0].margin <= float(decided) + 1e-6


def test_a_wrong_threshold_is_found():
    net, x = conv_net("hard"), frames()
    folded = sk.fold(net)
    folded[2].threshold += 0.1
    proof = sk.verify_fold(net, x, folded)
    assert not proof.exact
    first, *later = proof.layers
    assert first.away > 0
    assert all(layer.away == 0 for layer in later)
    assert proof.end_to_end > first.mismatches


def test_the_threshold_as_quantum_is_found():
    """What goes wrong most easily: soft reset by the folded threshold."""
    net, x = conv_net("soft"), frames()
    folded = sk.fold(net)
    folded[2].quantum = folded[2].threshold.clone()
    assert sk.verify_fold(net, x, folded).away > 100


def test_a_sign_left_out_is_found():
    net, x = conv_net("hard"), frames()
    folded = sk.fold(net)
    folded[2].sign.fill_(1)
    folded[2]._look()
    assert sk.verify_fold(net, x, folded).away > 1000


def test_ties_are_counted_apart():
    """A neuron whose decision meets its threshold, and then a mismatch that follows from it."""
    lif = sk.LIF(1.0, 0.5, "soft", norm=sk.MPBN(1)).eval()
    lif.norm.running_var.fill_(1 - lif.norm.eps)
    lif.norm.num_batches_tracked.fill_(1)
    x = torch.tensor([0.5, 0.1, 0.0]).reshape(3, 1, 1)
    folded = sk.fold(lif)
    folded.threshold.fill_(0.5 - 1e-7)
    proof = sk.verify_fold(lif, x, folded)
    assert (proof.mismatches, proof.away, proof.ties) == (2, 0, 1)
    assert proof.exact
    assert proof.margin < 1e-6
    strict = sk.verify_fold(lif, x, folded, tie=1e-12)
    assert (strict.away, strict.exact) == (2, False)


def test_train_mode_is_refused_before_any_statistics_move():
    net = conv_net()
    folded = sk.fold(net)
    net[2].norm.train()
    before = net[2].norm.running_mean.clone()
    with pytest.raises(InputError, match=r"Sequential is in train mode, all or in part; call \.eval\(\)"):
        sk.verify_fold(net, frames(), folded)
    assert torch.equal(net[2].norm.running_mean, before)


def test_networks_that_do_not_match_are_refused():
    net = conv_net()
    with pytest.raises(InputError, match="holds no spiking neuron"):
        sk.verify_fold(nn.Linear(2, 2).eval(), torch.zeros(2, 1, 2))
    with pytest.raises(InputError, match="has no neuron '9', as the network has"):
        sk.verify_fold(net, frames(), sk.Sequential(*copy.deepcopy(sk.fold(net))[:8]).eval())


def test_graded_spikes_beside_a_fold_are_left_alone():
    net = sk.Sequential(nn.Linear(4, 6), sk.LIF(0.6, 0.5, norm=sk.MPBN(6)), nn.Linear(6, 3), sk.SigmaDelta(0.3))
    net(torch.randn(6, 2, 4))
    proof = sk.verify_fold(net.eval(), torch.randn(6, 2, 4))
    assert [layer.name for layer in proof.layers] == ["1"]


def astrocyte_net(acts_on, senses):
    torch.manual_seed(0)
    own = sk.Astrocyte(4, (5.0,), acts_on, senses, strength=0.95 if acts_on == "gain" else -0.95, weight=5.0, bias=5.0)
    lif = sk.LIF(0.9, 0.5, astrocyte=own)
    layers = [nn.Linear(16, 8), nn.BatchNorm1d(8)]
    first = [*layers, lif] if senses == "post" else [sk.TripartiteSynapse(nn.Sequential(*layers), lif)]
    net = sk.Sequential(*first)
    net((torch.rand(40, 64, 16) < 0.3).float())
    return net.eval(), lif


def test_margins_are_those_of_a_threshold_that_an_astrocyte_moves():
    net, lif = astrocyte_net("threshold", "post")
    x = (torch.rand(20, 4, 16) < 0.3).float()
    _, seen = sk.record(net, x, ["2.membrane", "2.modulation", "2.spikes"])
    level = lif.threshold.double() * (2 - seen["2.modulation"].double().repeat_interleave(2, 2))
    wanted = (seen["2.membrane"].double() - level).abs().min().item()
    proof = sk.verify_fold(net, x)
    assert proof.margin == pytest.approx(wanted, rel=1e-9)
    assert proof.exact
    assert torch.equal(seen["2.membrane"].double() > level, seen["2.spikes"].bool())


@pytest.mark.parametrize("senses", ["pre", "both"])
@pytest.mark.parametrize("acts_on", ["gain", "threshold", "plasticity"])
def test_tripartite_synapses_are_verified(acts_on, senses):
    net, _ = astrocyte_net(acts_on, senses)
    x = (torch.rand(20, 4, 16) < 0.3).float()
    proof = sk.verify_fold(net, x)
    assert proof.layers[0].name == "0.neuron"
    assert proof.layers[0].spikes > 0
    assert proof.mismatches == 0
    other = copy.deepcopy(net)
    other[0].neuron = sk.LIF(0.9, 0.5).eval()
    other[0].forward = lambda x: other[0].neuron(sk.fold_time(other[0].layer)(x))
    with pytest.raises(InputError, match="senses presynaptic spikes, that of the folded one does not"):
        sk.verify_fold(net, x, other)
