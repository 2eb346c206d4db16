from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from spikekit.errors import InputError
from spikekit.train import TET, CrossEntropy, decode, pool_time

OUTPUT = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [5.0, 0.0]]])


@pytest.mark.parametrize(
    ("readout", "scores"),
    [
        ("mean", [[2.0, 0.0], [2.5, 1.0]]),
        ("sum", [[4.0, 0.0], [5.0, 2.0]]),
        ("max", [[3.0, 0.0], [5.0, 2.0]]),
        ("last", [[3.0, 0.0], [5.0, 0.0]]),
    ],
)
def test_pool_time(readout, scores):
    assert pool_time(OUTPUT, readout).tolist() == scores


def test_decode_takes_the_highest_score_a_sample():
    output = torch.zeros(3, 2, 4)
    output[:, 0, 3] = 1
    output[2, 1, 1] = 5
    assert decode(output).tolist() == [3, 1]


def test_cross_entropy_of_the_mean_over_time():
    target = torch.tensor([0, 1])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1.5))) / 2
    assert CrossEntropy()(OUTPUT, target).item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_is_torchs():
    target = torch.tensor([0, 1])
    expected = functional.cross_entropy(OUTPUT[-1], target, label_smoothing=0.2)
    assert CrossEntropy("last", 0.2)(OUTPUT, target) == expected


def test_tet_averages_the_loss_of_every_step():
    target = torch.tensor([1, 0])
    steps = [functional.cross_entropy(step, target) for step in OUTPUT]
    assert TET()(OUTPUT, target).item() == pytest.approx((sum(steps) / 2).item(), rel=1e-6)
    pulled = 0.75 * sum(steps) / 2 + 0.25 * ((OUTPUT - 0.5) ** 2).mean()
    assert TET(0.25, 0.5)(OUTPUT, target).item() == pytest.approx(pulled.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pool_time(OUTPUT, "median"), "unknown readout 'median'"),
        (lambda: decode(torch.zeros(3, 4)), r"must be \[T, B, C\], got shape \(3, 4\)"),
        (lambda: CrossEntropy("median"), "unknown readout"),
        (lambda: CrossEntropy(label_smoothing=1.0), r"label_smoothing must be in \[0, 1\)"),
        (lambda: TET(lamb=2.0), "lamb must be in"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(InputError, match=words):
        make()
