"""Folds for targets: rows negated, one common threshold, thresholds above 0; what cannot be kept is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.neurons import FoldedLIF
from tests.folding.nets import conv_net, frames, settle, spikes_equal

RESETS = ("soft", "hard", "none")


def net(threshold):
    """One layer whose fourth neuron fires below this folded threshold, all others above 0.5."""
    layer = sk.LIF(0.5, 0.5, norm=sk.MPBN(4)).eval()
    with torch.no_grad():
        layer.norm.weight[3] = -1
        layer.norm.num_batches_tracked.fill_(1)
        layer.norm.running_mean[3] = threshold + 0.5
        layer.norm.eps = 0.0
    return sk.Sequential(nn.Linear(4, 4), layer).eval()


def test_a_flipped_channel_with_a_negative_threshold_is_told_of_negation():
    with pytest.raises(InputError, match=r"layer 1: .* channel 3 is -1.5, .*negative='negate'"):
        sk.fold(net(-1.5), threshold="positive")
    folded = sk.fold(net(-1.5), threshold="positive", negative="negate")
    assert folded[1].threshold.tolist() == [0.5, 0.5, 0.5, 1.5]


def test_a_flipped_channel_with_a_positive_threshold_fires_from_rest():
    with pytest.raises(InputError, match="layer 1: channel 3, one of 1, fires below a threshold above 0, so from rest"):
        sk.fold(net(0.7), threshold="positive")


def test_a_threshold_beyond_the_dtype_names_its_channel():
    bad = net(-1.5)
    with torch.no_grad():
        bad[1].norm.weight[2] = 1e-42
    with pytest.raises(InputError, match="layer 1: the folded threshold of channel 2 is beyond the range"):
        sk.fold(bad)


def test_a_sign_that_is_assigned_counts():
    x = torch.randn(5, 2, 4)
    folded = sk.fold(net(-1.5))[1]
    plain = folded(x)
    folded.sign = -folded.sign
    assert not torch.equal(folded(x), plain)
    folded.sign = torch.ones(4)
    assert not folded.flips


@pytest.mark.parametrize("tie", [float("nan"), float("inf"), -1, "1e-6"])
def test_ties_that_would_explain_anything_are_refused(tie):
    with pytest.raises(InputError, match="tie must be a number from 0 to below 1"):
        sk.verify_fold(net(-1.5), torch.randn(5, 2, 4), tie=tie)


def test_a_fold_in_the_place_of_the_network_is_refused():
    with pytest.raises(InputError, match="the first network is folded already"):
        sk.verify_fold(sk.fold(net(-1.5)), torch.randn(5, 2, 4), net(-1.5))


def test_negated_rows_compare_one_way_only():
    for reset in RESETS:
        net = conv_net(reset).double()
        folded = sk.fold(net, negative="negate")
        spikes_equal(net, folded, frames().double())
        assert bool((folded[2].sign == 1).all())
        assert bool((folded[2].quantum < 0).any())
        assert torch.equal(folded[2].row_scale, net[2].norm.weight.sign())


def exportable(reset, shape=6):
    """Weights > 0 and thresholds > 0."""
    net = sk.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        sk.LIF(0.6, 0.5, reset, reset_quantum=0.7, norm=sk.MPBN(shape)),
    )
    settle(net, positive=True)
    net[2].norm.bias.data.uniform_(-0.5, 0.2)
    net[2].norm.running_mean.uniform_(0, 0.2)
    return net.double()


@pytest.mark.parametrize("reset", RESETS)
def test_a_common_threshold(reset):
    net = exportable(reset)
    folded = sk.fold(net, threshold="common")
    spikes_equal(net, folded, frames().double())
    assert bool((folded[2].threshold == 1).all())
    own = sk.fold(net, threshold="positive")
    torch.testing.assert_close(folded[2].quantum, 0.7 / own[2].threshold)
    torch.testing.assert_close(folded[0].bias * own[2].threshold, own[0].bias)


def test_a_common_threshold_with_negated_rows():
    net = exportable("soft")
    net[2].norm.weight.data[1] *= -1
    net[2].norm.bias.data[1] = 0.1
    net[2].norm.running_mean[1] = -1.0
    with pytest.raises(InputError, match=r"layer 2: .* negative for channel 1, one of 1.*negate"):
        sk.fold(net, threshold="common")
    folded = sk.fold(net, negative="negate", threshold="common")
    spikes_equal(net, folded, frames().double())
    assert bool((folded[2].threshold == 1).all())
    assert folded[2].quantum[1] < 0


def test_a_common_threshold_scales_neurons_without_norm_too():
    net = sk.Sequential(
        nn.Conv2d(2, 3, 3), sk.IF(torch.tensor([0.3, 0.5, 1.0])), nn.Flatten(), nn.Linear(108, 4), sk.LIF()
    )
    net = net.eval().double()
    folded = sk.fold(net, threshold="common")
    assert isinstance(folded[1], FoldedLIF)
    assert isinstance(folded[4], sk.LIF)
    spikes_equal(net, folded, frames().double())
    one = sk.Sequential(nn.Conv2d(2, 3, 3), sk.IF(0.3, "hard")).eval().double()
    spikes_equal(one, sk.fold(one, threshold="common"), frames().double())
    assert str(sk.fold(one, threshold="common").fold_report) == "1: threshold 1, rows of the layer before scaled"
    with pytest.raises(InputError, match=r"layer 1 \(CUBALIF\).*threshold='own'"):
        sk.fold(sk.Sequential(nn.Linear(3, 2), sk.CUBALIF(threshold=0.5)).eval(), threshold="common")


def test_a_threshold_that_is_not_positive_is_refused_where_asked():
    net = exportable("soft")
    net[2].norm.bias.data[4] = 3
    for threshold in ("positive", "common"):
        with pytest.raises(InputError, match=r"layer 2: .*threshold of channel 4 is -.*fires from rest.*'own'"):
            sk.fold(net, threshold=threshold)
    sk.fold(net)


def test_options_that_cannot_be_kept_are_refused():
    net = conv_net()
    with pytest.raises(InputError, match=r"layer 2: the weight of the norm is negative for channel \d, one of \d"):
        sk.fold(net, negative="refuse")
    with pytest.raises(InputError, match=r"layer 2: .*neurons differ inside a channel"):
        sk.fold(conv_net(element=True), negative="negate")
    with pytest.raises(InputError, match=r"layer lif: its rows are to be scaled, and no plain convolution.*'flip'"):
        sk.fold(Wrapped(), negative="negate")
    with pytest.raises(InputError, match="unknown negative 'other'"):
        sk.fold(net, negative="other")
    with pytest.raises(InputError, match=r"unknown threshold 1\.0"):
        sk.fold(net, threshold=1.0)
    with pytest.raises(InputError, match=r"must be an nn\.Module, got str"):
        sk.fold("net")


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.lif = sk.LIF(norm=sk.MPBN(2))
        settle(self)
        self.lif.norm.weight.data[0] = -1.0
