"""What a target with unsigned thresholds refuses of a folded network, and what is said to do about it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError


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
